/* A disk that does what a test wants, between a broker and the C library: it is preloaded, and knows the files below one folder.

   The test says what is to happen in a file that both have in memory (`disk.rs` has the same order). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SYNC = 1, WRITE = 2, READ = 4, OPEN = 8, RENAME = 16 };
enum { SHORT = -1, DIE_BEFORE = -2, DIE_AFTER = -3 };
enum { FILES = 1 << 16, RANGES = 1 << 15 };

static struct {
    /* From the test: calls of these kinds go wrong, from this one on, so many of them, in this way: an errno, or from above. */
    volatile long kinds, first, count, how;
    /* What was written since its last good sync is lost when a sync fails. */
    volatile long loses;
    /* Microseconds that a sync takes, bytes that may be written in a second. */
    volatile long sync_us, rate;
    /* To the test: calls of those kinds since `first` was set, how many of them went wrong, and all that were synced. */
    volatile long counted, wrong, syncs;
    /* The last name that took the place of another, and that other. */
    char from[2048], to[2048];
} *control;

static const char *folder;
static size_t folder_size;
static volatile char ours[FILES];

/* Written and not synced. */
static struct { ino_t file; off_t at; size_t size; } ranges[RANGES];
static size_t ranges_used;
static volatile int lock;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("DISK_CONTROL");
    folder = getenv("DISK_FOLDER");
    int file = path && folder ? syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    folder_size = strlen(folder);
    void *place = mmap(0, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (place != MAP_FAILED) control = place;
    syscall(SYS_close, file);
}

static int is_ours(int file) { return control && file >= 0 && file < FILES && ours[file]; }

static void die(void) { syscall(SYS_kill, syscall(SYS_getpid), SIGKILL); }

/* What is to go wrong with this call: 0 is nothing. */
static long judge(long kind) {
    if (!(control->kinds & kind)) return 0;
    long number = __sync_add_and_fetch(&control->counted, 1);
    if (number < control->first || number >= control->first + control->count) return 0;
    __sync_add_and_fetch(&control->wrong, 1);
    if (control->how == DIE_BEFORE) die();
    return control->how;
}

static void wait_us(long us) {
    struct timespec time = {us / 1000000, us % 1000000 * 1000};
    if (us > 0) while (nanosleep(&time, &time) && errno == EINTR) {}
}

static void hold(void) { while (__sync_lock_test_and_set(&lock, 1)) {} }
static void let_go(void) { __sync_lock_release(&lock); }

static ino_t number_of(int file) {
    struct stat about;
    return syscall(SYS_fstat, file, &about) ? 0 : about.st_ino;
}

static void note(int file, off_t at, size_t size) {
    ino_t number = number_of(file);
    hold();
    if (ranges_used < RANGES) {
        ranges[ranges_used].file = number, ranges[ranges_used].at = at, ranges[ranges_used++].size = size;
    }
    let_go();
}

/* All of a file that is not synced is safe now, or lost. */
static void settle(int file, int is_lost) {
    static const char zeros[4096];
    ino_t number = number_of(file);
    hold();
    for (size_t at = 0; at < ranges_used;) {
        if (ranges[at].file != number) { at++; continue; }
        for (size_t done = 0; is_lost && done < ranges[at].size; done += sizeof zeros) {
            size_t left = ranges[at].size - done, size = left < sizeof zeros ? left : sizeof zeros;
            syscall(SYS_pwrite64, file, zeros, size, ranges[at].at + done);
        }
        ranges[at] = ranges[--ranges_used];
    }
    let_go();
}

static int synced(int file, long call) {
    if (!is_ours(file)) return syscall(call, file);
    wait_us(control->sync_us);
    long how = judge(SYNC);
    if (how > 0) {
        if (control->loses && how != EINTR) settle(file, 1); // one that was interrupted has lost nothing
        errno = how;
        return -1;
    }
    int result = syscall(call, file);
    if (result == 0) {
        if (control->loses) settle(file, 0);
        __sync_add_and_fetch(&control->syncs, 1);
    }
    if (how == DIE_AFTER) die();
    return result;
}

int fsync(int file) { return synced(file, SYS_fsync); }
int fdatasync(int file) { return synced(file, SYS_fdatasync); }

/* At a place of the file, or where it is. */
static ssize_t written(int file, const void *bytes, size_t size, off_t at) {
    long how = is_ours(file) && size > 0 ? judge(WRITE) : 0;
    if (how > 0) { errno = how; return -1; }
    if (how == SHORT && size > 1) size /= 2;
    ssize_t done = at < 0 ? syscall(SYS_write, file, bytes, size) : syscall(SYS_pwrite64, file, bytes, size, at);
    if (done > 0 && is_ours(file)) {
        if (control->loses) note(file, at < 0 ? lseek(file, 0, SEEK_CUR) - done : at, done);
        if (control->rate > 0) wait_us(done * 1000000 / control->rate);
    }
    if (how == DIE_AFTER) die();
    return done;
}

ssize_t write(int file, const void *bytes, size_t size) { return written(file, bytes, size, -1); }
ssize_t pwrite64(int file, const void *bytes, size_t size, off_t at) { return written(file, bytes, size, at); }
ssize_t pwrite(int file, const void *bytes, size_t size, off_t at) { return written(file, bytes, size, at); }

static ssize_t was_read(int file, void *bytes, size_t size, off_t at) {
    long how = is_ours(file) && size > 0 ? judge(READ) : 0;
    if (how > 0) { errno = how; return -1; }
    if (how == SHORT && size > 1) size /= 2;
    return at < 0 ? syscall(SYS_read, file, bytes, size) : syscall(SYS_pread64, file, bytes, size, at);
}

ssize_t read(int file, void *bytes, size_t size) { return was_read(file, bytes, size, -1); }
ssize_t pread64(int file, void *bytes, size_t size, off_t at) { return was_read(file, bytes, size, at); }
ssize_t pread(int file, void *bytes, size_t size, off_t at) { return was_read(file, bytes, size, at); }

static int opened(int at, const char *path, int flags, mode_t mode) {
    int is_below = control && !strncmp(path, folder, folder_size);
    long how = is_below ? judge(OPEN) : 0;
    if (how > 0) { errno = how; return -1; }
    int file = syscall(SYS_openat, at, path, flags, mode);
    if (is_below && file >= 0 && file < FILES) ours[file] = 1;
    return file;
}

#define MODE() va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest)
int open(const char *path, int flags, ...) { MODE(); return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(); return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(); return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(); return opened(at, path, flags, mode); }

int close(int file) {
    if (file >= 0 && file < FILES) ours[file] = 0;
    return syscall(SYS_close, file);
}

int rename(const char *from, const char *to) {
    long how = 0;
    if (control && !strncmp(to, folder, folder_size)) {
        strncpy(control->from, from, sizeof control->from - 1);
        strncpy(control->to, to, sizeof control->to - 1);
        how = judge(RENAME);
    }
    if (how > 0) { errno = how; return -1; }
    int result = syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
    if (how == DIE_AFTER) die();
    return result;
}
