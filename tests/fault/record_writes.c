/* Records what a process writes to the files below $RECORD_BELOW, and when it syncs, into $RECORD_TO.
 *
 * For LD_PRELOAD. A record: u8 kind (w write, s write through O_DSYNC, f fsync), u8 length of the
 * file's name, the name, u64 offset, u32 length, the bytes. One write to the recording at a time, so
 * records do not mix.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int to = -1;

static const char *watched(int fd, char *path, size_t size)
{
    const char *below = getenv("RECORD_BELOW");
    char link[64];
    ssize_t length;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, size - 1);
    if (!below || length <= 0)
        return NULL;
    path[length] = 0;
    if (strncmp(path, below, strlen(below)) || path[strlen(below)] != '/')
        return NULL;
    return path + strlen(below) + 1;
}

static void record(int fd, char kind, uint64_t offset, const void *bytes, uint32_t length)
{
    static ssize_t (*real_write)(int, const void *, size_t);
    char path[4096];
    const char *name = watched(fd, path, sizeof path);
    uint8_t head[2];
    if (!name)
        return;
    pthread_mutex_lock(&lock);
    if (to < 0) {
        real_write = dlsym(RTLD_NEXT, "write");
        to = open(getenv("RECORD_TO"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    }
    if (kind == 'w' && fcntl(fd, F_GETFL) & O_DSYNC)
        kind = 's';
    head[0] = kind;
    head[1] = strlen(name);
    if (real_write(to, head, 2) != 2 || real_write(to, name, head[1]) != head[1] || real_write(to, &offset, 8) != 8
            || real_write(to, &length, 4) != 4 || real_write(to, bytes, length) != (ssize_t)length)
        abort();
    pthread_mutex_unlock(&lock);
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset)
{
    REAL(pwrite);
    ssize_t done = real(fd, bytes, length, offset);
    if (done > 0)
        record(fd, 'w', offset, bytes, done);
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset)
{
    return pwrite(fd, bytes, length, offset);
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    REAL(write);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t done = real(fd, bytes, length);
    if (done > 0 && offset >= 0)
        record(fd, 'w', offset, bytes, done);
    return done;
}

static void record_all(int fd, const struct iovec *parts, int count, off_t offset)
{
    for (int at = 0; at < count; offset += parts[at++].iov_len)
        record(fd, 'w', offset, parts[at].iov_base, parts[at].iov_len);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL(writev);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t done = real(fd, parts, count);
    if (done > 0 && offset >= 0)
        record_all(fd, parts, count, offset);
    return done;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    REAL(pwritev);
    ssize_t done = real(fd, parts, count, offset);
    if (done > 0)
        record_all(fd, parts, count, offset);
    return done;
}

int fsync(int fd)
{
    REAL(fsync);
    int done = real(fd);
    record(fd, 'f', 0, "", 0);
    return done;
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    int done = real(fd);
    record(fd, 'f', 0, "", 0);
    return done;
}
