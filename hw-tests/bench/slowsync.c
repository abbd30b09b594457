/* Counts, and if asked slows, every fsync of a program that is started with this library preloaded.
 *
 * SLOWSYNC_COUNT: a file of at least 8 bytes; its first 8 bytes count the calls of all processes (native byte order).
 * SLOWSYNC_US: microseconds that each call takes longer.
 * Built and used by the benchmark only; nothing of the product knows it. If the file cannot be mapped, nothing is counted.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint64_t *count;
static long delay_us;
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SLOWSYNC_COUNT"), *us = getenv("SLOWSYNC_US");
    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (us) delay_us = atol(us);
    if (path) {
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0) {
            void *page = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (page != MAP_FAILED) count = page;
            close(fd);
        }
    }
}

static void slow(void) {
    if (count) atomic_fetch_add(count, 1);
    if (delay_us > 0) {
        struct timespec left = {delay_us / 1000000, delay_us % 1000000 * 1000};
        while (nanosleep(&left, &left) != 0) {}
    }
}

int fsync(int fd) {
    slow();
    return real_fsync(fd);
}

int fdatasync(int fd) {
    slow();
    return real_fdatasync(fd);
}
