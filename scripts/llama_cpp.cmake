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

# Changes of llama.cpp's own lines, in the copy that pip has unpacked to build from. What they include lies beside them.
# As a header that does not fit another version does, a patch that does not fit ends the build: else half of the speed
# beside others would go unnoticed.
include_directories("${CMAKE_CURRENT_LIST_DIR}")
find_program(NIBBLE_PYTHON NAMES python3 python REQUIRED)
execute_process(
    COMMAND "${NIBBLE_PYTHON}" "${CMAKE_CURRENT_LIST_DIR}/apply_patch.py" "${CMAKE_CURRENT_LIST_DIR}/llama_cpp.patch"
        "${CMAKE_CURRENT_SOURCE_DIR}"
    RESULT_VARIABLE NIBBLE_PATCHED ERROR_VARIABLE NIBBLE_PATCH_ERROR)
if(NOT NIBBLE_PATCHED EQUAL 0)
    message(FATAL_ERROR "scripts/llama_cpp.patch: ${NIBBLE_PATCH_ERROR}")
endif()
