/* Makes the disk under a store fail, fill up, or forget what was not synced.

   Preloaded with LD_PRELOAD; looks at files named data.mdb alone. A program steers it through its variables:

       fault_mode      0 works; 1 writes meet a full disk (ENOSPC); 2 writes fail (EIO); 3 fdatasync fails; 4 a synced
                       write (LMDB's meta page) is in the page cache but fails; 5 as 4, and it cannot be taken back
       fault_die_at    the process is killed (SIGKILL) just before this event, counted from 1; 0: never
       fault_events    events so far: writes and syncs
       fault_journal   folder; if set, what an unsynced write covers is noted in a file named by the inode before the
                       write, and forgotten at the sync. Records: offset, size, old file size (three 64-bit numbers),
                       then the old bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(type, name, ...)                                   \
    static type (*real)(__VA_ARGS__);                           \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

volatile int fault_mode, fault_die_at, fault_events;
char fault_journal[4096];

/* A process that a steered one starts begins with the mode that FAULT_MODE says. */
__attribute__((constructor)) static void begin(void) {
    const char *mode = getenv("FAULT_MODE");
    if (mode) fault_mode = atoi(mode);
}

static int is_store(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    return length >= 9 && !memcmp(path + length - 9, "/data.mdb", 9);
}

static int is_synced(int fd) { return !!(fcntl(fd, F_GETFL) & O_DSYNC); }

static void event(void) {
    if (++fault_events == fault_die_at) kill(getpid(), SIGKILL);
}

static int journal(int fd, int flags) {
    char path[5000];
    struct stat about;
    if (!fault_journal[0] || fstat(fd, &about)) return -1;
    snprintf(path, sizeof path, "%s/%llu", fault_journal, (unsigned long long)about.st_ino);
    return open(path, O_CREAT | flags, 0600);
}

static void remember(int fd, uint64_t at, uint64_t size) {
    struct stat about;
    int out = journal(fd, O_WRONLY | O_APPEND);
    if (out < 0 || fstat(fd, &about)) return;
    uint64_t head[3] = {at, size, (uint64_t)about.st_size};
    char *old = calloc(1, sizeof head + size);
    memcpy(old, head, sizeof head);
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int in = open(self, O_RDONLY);
    syscall(SYS_pread64, in, old + sizeof head, size, at);
    syscall(SYS_close, in);
    syscall(SYS_write, out, old, sizeof head + size);
    syscall(SYS_close, out);
    free(old);
}

/* 0: go on; an error number: fail with it; -1: go on, then fail with EIO. */
static int before_write(int fd, uint64_t at, uint64_t size) {
    if (!is_store(fd)) return 0;
    event();
    int synced = is_synced(fd);
    if (!synced) remember(fd, at, size);
    if (synced) return fault_mode >= 4 ? -1 : 0;
    if (fault_mode == 1) return ENOSPC;
    if (fault_mode == 2) return EIO;
    if (fault_mode == 5 && at < 8192) return EIO;
    return 0;
}

static ssize_t after_write(int verdict, ssize_t result) {
    if (verdict >= 0) return result;
    errno = EIO;
    return -1;
}

static uint64_t size_of(const struct iovec *parts, int count) {
    uint64_t size = 0;
    for (int i = 0; i < count; i++) size += parts[i].iov_len;
    return size;
}

#define WRITE(name, size, offset, parameters, types, arguments) \
    ssize_t name parameters {                                   \
        static ssize_t(*real) types;                            \
        if (!real) real = (ssize_t(*) types)dlsym(RTLD_NEXT, #name); \
        int verdict = before_write(fd, (uint64_t)(offset), size); \
        if (verdict > 0) {                                      \
            errno = verdict;                                    \
            return -1;                                          \
        }                                                       \
        return after_write(verdict, real arguments);            \
    }

WRITE(pwrite, n, at, (int fd, const void *data, size_t n, off_t at), (int, const void *, size_t, off_t), (fd, data, n, at))
WRITE(pwrite64, n, at, (int fd, const void *data, size_t n, off64_t at), (int, const void *, size_t, off64_t), (fd, data, n, at))
WRITE(pwritev, size_of(parts, n), at, (int fd, const struct iovec *parts, int n, off_t at), (int, const struct iovec *, int, off_t), (fd, parts, n, at))
WRITE(pwritev64, size_of(parts, n), at, (int fd, const struct iovec *parts, int n, off64_t at), (int, const struct iovec *, int, off64_t), (fd, parts, n, at))
WRITE(write, n, lseek(fd, 0, SEEK_CUR), (int fd, const void *data, size_t n), (int, const void *, size_t), (fd, data, n))
WRITE(writev, size_of(parts, n), lseek(fd, 0, SEEK_CUR), (int fd, const struct iovec *parts, int n), (int, const struct iovec *, int), (fd, parts, n))

static int before_sync(int fd) {
    if (!is_store(fd)) return 0;
    event();
    if (fault_mode != 3) return 0;
    errno = EIO;
    return -1;
}

static int after_sync(int fd, int result) {
    int out;
    if (!result && is_store(fd) && (out = journal(fd, O_WRONLY | O_TRUNC)) >= 0) syscall(SYS_close, out);
    return result;
}

int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    return before_sync(fd) ? -1 : after_sync(fd, real(fd));
}

int fsync(int fd) {
    REAL(int, fsync, int);
    return before_sync(fd) ? -1 : after_sync(fd, real(fd));
}
