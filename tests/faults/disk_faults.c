/* A disk that fails, or a process that dies, at the Nth call that changes anything below one directory.

   Loaded before the C library (LD_PRELOAD), so it meets Python's calls and SQLite's alike. A fault is armed by the
   process itself, for itself. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum kind { FULL_ONCE = 0, BROKEN_FROM_HERE = 1, KILLED = 2, TORN = 3 };

static char directory[4096];
static long armed_at, calls, hits;
static int armed_kind;

void fault_arm(const char *below, long at, int kind) {
    strncpy(directory, below, sizeof directory - 1);
    armed_at = at;
    armed_kind = kind;
    calls = hits = 0;
}

long fault_hits(void) { return hits; }

static int is_below(const char *path) {
    return armed_at > 0 && path != NULL && strncmp(path, directory, strlen(directory)) == 0;
}

static int is_file_below(int descriptor) {
    char link[64], path[4096];
    if (armed_at <= 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return is_below(path);
}

/* Whether this call is to fail. Does not return where the process is to die; a torn write is the caller's part. */
static int fails(int is_write) {
    calls++;
    if (calls < armed_at || (calls > armed_at && armed_kind != BROKEN_FROM_HERE)) return 0;
    hits++;
    if (armed_kind == KILLED || (armed_kind == TORN && !is_write)) kill(getpid(), SIGKILL);
    errno = armed_kind == BROKEN_FROM_HERE ? EIO : ENOSPC;
    return 1;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

ssize_t write(int descriptor, const void *data, size_t count) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (is_file_below(descriptor) && fails(1)) {
        if (armed_kind == TORN) { real(descriptor, data, count / 2); kill(getpid(), SIGKILL); }
        return -1;
    }
    return real(descriptor, data, count);
}

#define POSITIONED(name, offset) \
    ssize_t name(int descriptor, const void *data, size_t count, offset at) { \
        REAL(ssize_t, #name, int, const void *, size_t, offset); \
        if (is_file_below(descriptor) && fails(1)) { \
            if (armed_kind == TORN) { real(descriptor, data, count / 2, at); kill(getpid(), SIGKILL); } \
            return -1; \
        } \
        return real(descriptor, data, count, at); \
    }
POSITIONED(pwrite, off_t)
POSITIONED(pwrite64, off64_t)

#define ON_DESCRIPTOR(name) \
    int name(int descriptor) { \
        REAL(int, #name, int); \
        return is_file_below(descriptor) && fails(0) ? -1 : real(descriptor); \
    }
ON_DESCRIPTOR(fsync)
ON_DESCRIPTOR(fdatasync)

#define RESIZING(name, size) \
    int name(int descriptor, size length) { \
        REAL(int, #name, int, size); \
        return is_file_below(descriptor) && fails(0) ? -1 : real(descriptor, length); \
    }
RESIZING(ftruncate, off_t)
RESIZING(ftruncate64, off64_t)

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    return is_below(to) && fails(0) ? -1 : real(from, to);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    return is_below(path) && fails(0) ? -1 : real(path);
}

#define OPENING(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, #name, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        /* A full disk has room for a name no more than for a byte. */ \
        if (flags & O_CREAT && is_below(path) && access(path, F_OK) != 0 && fails(0)) return -1; \
        return real(path, flags, mode); \
    }
OPENING(open)
OPENING(open64)
