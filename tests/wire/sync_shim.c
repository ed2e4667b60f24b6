/* Notes in which order a process syncs its store and sends its answers.

   Preloaded with LD_PRELOAD; appends one line per event to the file named by SYNC_SHIM_LOG:

       write MARK    bytes that hold MARK were written to a file data.mdb
       sync          fdatasync or fsync of a file data.mdb has returned
       dsync         a write to data.mdb through a descriptor opened with O_DSYNC has returned
       answer MARK   bytes that hold MARK are about to be sent over TCP

   MARK is the text behind "sync-mark-", up to the first character that is no digit. Lines are in the order of events:
   what has to come first is written down after it returned, an answer before it is sent. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PREFIX "sync-mark-"
#define REAL(type, name, ...)                                   \
    static type (*real)(__VA_ARGS__);                           \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static void note(const char *what, const char *mark) {
    const char *path = getenv("SYNC_SHIM_LOG");
    char line[128];
    int fd, length = snprintf(line, sizeof line, "%s %s\n", what, mark);
    if (!path || (fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600)) < 0) return;
    syscall(SYS_write, fd, line, (size_t)length);
    syscall(SYS_close, fd);
}

static int is_store(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    return length >= 9 && !memcmp(path + length - 9, "/data.mdb", 9);
}

static int is_tcp(int fd) {
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size)) return 0;
    return address.ss_family == AF_INET || address.ss_family == AF_INET6;
}

static void marks(const char *what, const void *data, size_t size) {
    const char *at = data, *end = at + size;
    while (at < end && (at = memmem(at, (size_t)(end - at), PREFIX, sizeof PREFIX - 1))) {
        char mark[24];
        size_t n = 0;
        for (at += sizeof PREFIX - 1; at < end && n < sizeof mark - 1 && *at >= '0' && *at <= '9'; at++) mark[n++] = *at;
        mark[n] = 0;
        note(what, mark);
    }
}

static void wrote(int fd, const struct iovec *parts, int count) {
    if (!is_store(fd)) return;
    for (int i = 0; i < count; i++) marks("write", parts[i].iov_base, parts[i].iov_len);
    if (fcntl(fd, F_GETFL) & O_DSYNC) note("dsync", "");
}

static void answers(int fd, const struct iovec *parts, size_t count) {
    if (!is_tcp(fd)) return;
    for (size_t i = 0; i < count; i++) marks("answer", parts[i].iov_base, parts[i].iov_len);
}

int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    int result = real(fd);
    if (!result && is_store(fd)) note("sync", "");
    return result;
}

int fsync(int fd) {
    REAL(int, fsync, int);
    int result = real(fd);
    if (!result && is_store(fd)) note("sync", "");
    return result;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    struct iovec part = {(void *)data, size};
    ssize_t result = real(fd, data, size, at);
    wrote(fd, &part, 1);
    return result;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    struct iovec part = {(void *)data, size};
    ssize_t result = real(fd, data, size, at);
    wrote(fd, &part, 1);
    return result;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t);
    ssize_t result = real(fd, parts, count, at);
    wrote(fd, parts, count);
    return result;
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    REAL(ssize_t, pwritev64, int, const struct iovec *, int, off64_t);
    ssize_t result = real(fd, parts, count, at);
    wrote(fd, parts, count);
    return result;
}

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    struct iovec part = {(void *)data, size};
    answers(fd, &part, 1);
    ssize_t result = real(fd, data, size);
    wrote(fd, &part, 1);
    return result;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    answers(fd, parts, (size_t)count);
    ssize_t result = real(fd, parts, count);
    wrote(fd, parts, count);
    return result;
}

ssize_t send(int fd, const void *data, size_t size, int flags) {
    REAL(ssize_t, send, int, const void *, size_t, int);
    struct iovec part = {(void *)data, size};
    answers(fd, &part, 1);
    return real(fd, data, size, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    REAL(ssize_t, sendmsg, int, const struct msghdr *, int);
    answers(fd, message->msg_iov, message->msg_iovlen);
    return real(fd, message, flags);
}
