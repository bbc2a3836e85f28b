# Included right after llama.cpp's own project() call, through CMAKE_PROJECT_llama.cpp_INCLUDE.
#
# llama-cpp-python forces LLAMA_BUILD_COMMON on in the cache, although it binds nothing of that library; a
# normal variable set here shadows the cache entry. It saves about a third of the compile time and the link
# to OpenSSL.
set(LLAMA_BUILD_COMMON OFF)

# Without it, a build for AMX (Intel's servers since 2023) dies of its first batch.
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:SHELL:-include \"${CMAKE_CURRENT_LIST_DIR}/tile_config.h\">")

# A KV cache is cleared without bringing in its pages, and of a slot only what is used is copied. The targets of these
# files are made further down, so this waits for the end of llama.cpp's own CMakeLists.txt; variables in a deferred call
# are read only then.
if(NOT MSVC AND NOT CMAKE_VERSION VERSION_LESS 3.19)
    set(NIBBLE_CLEARED_FILE "${CMAKE_CURRENT_SOURCE_DIR}/ggml/src/ggml-backend.cpp")
    set(NIBBLE_CLEARED_WITH "-include;${CMAKE_CURRENT_LIST_DIR}/lazy_clear.h")
    cmake_language(DEFER CALL set_source_files_properties "${NIBBLE_CLEARED_FILE}" TARGET_DIRECTORY ggml-base
        PROPERTIES COMPILE_OPTIONS "${NIBBLE_CLEARED_WITH}")
    set(NIBBLE_COPIED_FILE "${CMAKE_CURRENT_SOURCE_DIR}/src/llama-kv-cache.cpp")
    set(NIBBLE_COPIED_WITH "-include;${CMAKE_CURRENT_LIST_DIR}/copy_used.h")
    cmake_language(DEFER CALL set_source_files_properties "${NIBBLE_COPIED_FILE}" TARGET_DIRECTORY llama
        PROPERTIES COMPILE_OPTIONS "${NIBBLE_COPIED_WITH}")
endif()

# Threads that wait for each other are as patient as they are told to be. What OpenMP's barrier stands in is a file of C,
# where no macro can stand for it: this is the copy that pip has unpacked to build from.
set(NIBBLE_BARRIER_FILE "${CMAKE_CURRENT_SOURCE_DIR}/ggml/src/ggml-cpu/ggml-cpu.c")
set(NIBBLE_BARRIER_HEAD "void ggml_barrier(struct ggml_threadpool * tp) {\n")
set(NIBBLE_BARRIER_OPENMP "#ifdef GGML_USE_OPENMP\n    #pragma omp barrier\n")
file(READ "${NIBBLE_BARRIER_FILE}" NIBBLE_BARRIER_TEXT)
string(FIND "${NIBBLE_BARRIER_TEXT}" "nibble_barrier" NIBBLE_BARRIER_DONE)
string(FIND "${NIBBLE_BARRIER_TEXT}" "${NIBBLE_BARRIER_HEAD}" NIBBLE_BARRIER_FOUND)
string(FIND "${NIBBLE_BARRIER_TEXT}" "${NIBBLE_BARRIER_OPENMP}" NIBBLE_BARRIER_OPENMP_FOUND)
if(NIBBLE_BARRIER_FOUND EQUAL -1 OR NIBBLE_BARRIER_OPENMP_FOUND EQUAL -1)
    if(NIBBLE_BARRIER_DONE EQUAL -1)
        # As a header that does not fit another version does: else half of its speed beside others would go unnoticed.
        message(FATAL_ERROR "ggml-cpu.c has no barrier as scripts/patient_barrier.h knows it")
    endif()
else()
    string(REPLACE "${NIBBLE_BARRIER_HEAD}"
        "#include \"${CMAKE_CURRENT_LIST_DIR}/patient_barrier.h\"\n${NIBBLE_BARRIER_HEAD}"
        NIBBLE_BARRIER_TEXT "${NIBBLE_BARRIER_TEXT}")
    string(REPLACE "${NIBBLE_BARRIER_OPENMP}"
        "#if defined(GGML_USE_OPENMP) && defined(__linux__)\n    nibble_barrier(&tp->n_barrier, &tp->n_barrier_passed, n_threads);\n#elif defined(GGML_USE_OPENMP)\n    #pragma omp barrier\n"
        NIBBLE_BARRIER_TEXT "${NIBBLE_BARRIER_TEXT}")
    file(WRITE "${NIBBLE_BARRIER_FILE}" "${NIBBLE_BARRIER_TEXT}")
endif()
