# Included right after llama.cpp's own project() call, through CMAKE_PROJECT_llama.cpp_INCLUDE.
#
# llama-cpp-python forces LLAMA_BUILD_COMMON on in the cache, although it binds nothing of that library; a
# normal variable set here shadows the cache entry. It saves about a third of the compile time and the link
# to OpenSSL.
set(LLAMA_BUILD_COMMON OFF)

# Without it, a build for AMX (Intel's servers since 2023) dies of its first batch.
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:SHELL:-include \"${CMAKE_CURRENT_LIST_DIR}/tile_config.h\">")
