/* Records what a program does to the files below one directory, in order, with the data: preloaded, for power-cut tests.
 *
 * RECORDER_DIR    the directory whose files are recorded
 * RECORDER_MARKS  a file outside of it: what is written there is recorded as a mark, between the other records
 * RECORDER_LOG    where the records go
 *
 * A record is one header line, `op path-length path2-length offset data-length\n`, then path, path2 and data.
 * sync_file_range is not recorded: it promises nothing about durability (its manual page, "Warning"). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static const char *dir, *marks;
static size_t dir_length;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

static void start(void) {
    if (log_fd >= 0) return;
    dir = getenv("RECORDER_DIR");
    marks = getenv("RECORDER_MARKS");
    const char *path = getenv("RECORDER_LOG");
    if (!dir || !marks || !path) abort();
    dir_length = strlen(dir);
    log_fd = REAL(open64)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0) abort();
}

static void put(const void *bytes, size_t length) {
    const char *at = bytes;
    while (length > 0) {
        ssize_t written = REAL(write)(log_fd, at, length);
        if (written <= 0) abort();
        at += written;
        length -= (size_t)written;
    }
}

static void record(const char *op, const char *path, const char *path2, off_t offset, const void *data, size_t length) {
    char header[128];
    int bytes = snprintf(header, sizeof header, "%s %zu %zu %lld %zu\n", op, strlen(path), strlen(path2),
                         (long long)offset, length);
    put(header, (size_t)bytes);
    put(path, strlen(path));
    put(path2, strlen(path2));
    put(data, length);
}

static int below(const char *path) {
    return strncmp(path, dir, dir_length) == 0 && (path[dir_length] == '/' || path[dir_length] == 0);
}

/* The path of an open file; empty if it has none. */
static void path_of(int fd, char *path) {
    char link[64];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    errno = saved;
}

/* The path that `name` means beside the directory `at`. */
static void resolve(int at, const char *name, char *path) {
    if (name[0] == '/' || at == AT_FDCWD) {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    char parent[PATH_MAX];
    path_of(at, parent);
    if (snprintf(path, PATH_MAX, "%s/%s", parent, name) >= PATH_MAX) abort();
}

static void lock(void) {
    pthread_mutex_lock(&order);
    start();
}

static void unlock(void) {
    int saved = errno;
    pthread_mutex_unlock(&order);
    errno = saved;
}

static int opened(const char *path, int flags, mode_t mode) {
    lock();
    int before = below(path) && access(path, F_OK) == 0;
    int fd = REAL(open64)(path, flags, mode);
    if (fd >= 0 && below(path)) {
        if (!before && (flags & O_CREAT)) record("create", path, "", 0, "", 0);
        if (before && (flags & O_TRUNC)) record("truncate", path, "", 0, "", 0);
    }
    unlock();
    return fd;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        mode_t mode = 0;                                                                                               \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                                           \
            va_list rest;                                                                                              \
            va_start(rest, flags);                                                                                     \
            mode = va_arg(rest, mode_t);                                                                               \
            va_end(rest);                                                                                              \
        }                                                                                                              \
        return opened(path, flags, mode);                                                                              \
    }
OPEN(open)
OPEN(open64)

static void written(int fd, const void *data, ssize_t length, off_t offset) {
    char path[PATH_MAX];
    path_of(fd, path);
    if (length <= 0) return;
    if (below(path)) record("write", path, "", offset, data, (size_t)length);
    else if (strcmp(path, marks) == 0) record("mark", "", "", 0, data, (size_t)length);
}

ssize_t write(int fd, const void *data, size_t length) {
    if (fd == log_fd) return REAL(write)(fd, data, length);
    lock();
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t result = REAL(write)(fd, data, length);
    written(fd, data, result, offset < 0 ? 0 : offset);
    unlock();
    return result;
}

static ssize_t written_at(int fd, const void *data, size_t length, off_t offset) {
    lock();
    ssize_t result = REAL(pwrite64)(fd, data, length, offset);
    written(fd, data, result, offset);
    unlock();
    return result;
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return written_at(fd, data, length, offset); }
ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) { return written_at(fd, data, length, offset); }

/* Ways of writing that the store does not use: if it ever does, the test must learn of them. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    lock();
    path_of(fd, path);
    if (below(path)) abort();
    unlock();
    return REAL(writev)(fd, parts, count);
}

static int truncated(int fd, off_t length) {
    char path[PATH_MAX];
    lock();
    int result = REAL(ftruncate64)(fd, length);
    path_of(fd, path);
    if (result == 0 && below(path)) record("truncate", path, "", length, "", 0);
    unlock();
    return result;
}
int ftruncate(int fd, off_t length) { return truncated(fd, length); }
int ftruncate64(int fd, off_t length) { return truncated(fd, length); }

static int synced(int fd, int result) {
    char path[PATH_MAX];
    path_of(fd, path);
    if (result == 0 && below(path)) record("sync", path, "", 0, "", 0);
    return result;
}

int fsync(int fd) {
    lock();
    int result = synced(fd, REAL(fsync)(fd));
    unlock();
    return result;
}

int fdatasync(int fd) {
    lock();
    int result = synced(fd, REAL(fdatasync)(fd));
    unlock();
    return result;
}

int rename(const char *from, const char *to) {
    lock();
    int result = REAL(rename)(from, to);
    if (result == 0 && below(from)) record("rename", from, to, 0, "", 0);
    unlock();
    return result;
}

static int removed(const char *path, int result) {
    if (result == 0 && below(path)) record("remove", path, "", 0, "", 0);
    return result;
}

int unlink(const char *path) {
    lock();
    int result = removed(path, REAL(unlink)(path));
    unlock();
    return result;
}

int rmdir(const char *path) {
    lock();
    int result = removed(path, REAL(rmdir)(path));
    unlock();
    return result;
}

int unlinkat(int at, const char *name, int flags) {
    char path[PATH_MAX];
    lock();
    resolve(at, name, path);
    int result = removed(path, REAL(unlinkat)(at, name, flags));
    unlock();
    return result;
}

int mkdir(const char *path, mode_t mode) {
    lock();
    int result = REAL(mkdir)(path, mode);
    if (result == 0 && below(path)) record("mkdir", path, "", 0, "", 0);
    unlock();
    return result;
}
