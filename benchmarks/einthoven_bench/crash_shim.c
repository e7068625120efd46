/* Stands between a process and the C library, and breaks or records what it does to the files of one folder.
 *
 * Loaded with LD_PRELOAD; told what to do through the functions named crash_shim_*. It deliberately knows nothing of
 * SQLite or of stores: it sees calls, counts them, and may end the process, tear a write, fail a call, or write down
 * what was done. Memory mappings are not seen; SQLite maps only the index of its log, which is made anew after a crash.
 *
 * 1. Only files under the watched folder are counted, and only while it is armed.
 * 2. A call that is not the chosen one is passed on unchanged.
 * 3. A disk that is full has room again for what was removed, and lets what is there be written over.
 * 4. The log of a recording holds every change of the folder, with its bytes, in the order in which they were made.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* What to do at the chosen call; crash_shim.py has the same numbers. */
enum { OFF = 0, COUNT = 1, KILL = 2, TEAR = 3, FAIL_ONCE = 4, FAIL_ON = 5, FULL = 6 };
/* What a call is; crash_shim.py has the same numbers. */
enum { K_OPEN = 1, K_CREATE = 2, K_READ = 3, K_WRITE = 4, K_SYNC = 5, K_TRUNCATE = 6, K_RENAME = 7, K_UNLINK = 8,
       K_MKDIR = 9, K_LINK = 10, K_ALLOCATE = 11, K_MARK = 12, K_RMDIR = 13 };
enum { MAX_DESCRIPTORS = 4096, MAX_KINDS = 1 << 16 };
enum { FILE_NEEDS = 4096 }; /* bytes of a full disk that a new name takes */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX], keep[PATH_MAX];
static size_t folder_length;
static int mode = OFF, failure = EIO, cut_permille, cut_to_sector, record_descriptor = -1, fired;
static uint32_t kinds; /* which kinds are counted, a bit each */
static long chosen, counted;
static int64_t room; /* bytes that were freed on a disk that is full */
static unsigned char watched[MAX_DESCRIPTORS];
static unsigned char kind_at[MAX_KINDS];


/* ---- what is watched -------------------------------------------------------------------------------------------- */

/* The absolute path of a call's argument, or NULL if it is not under the watched folder. */
static const char *inside(int at, const char *path, char *space) {
  int saved = errno;
  const char *found = NULL;
  if (folder_length && path) {
    if (path[0] == '/') {
      snprintf(space, PATH_MAX, "%s", path);
    } else {
      char link[64], base[PATH_MAX];
      ssize_t n;
      if (at == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
      else snprintf(link, sizeof link, "/proc/self/fd/%d", at);
      n = readlink(link, base, sizeof base - 1);
      if (n < 0) n = 0;
      base[n] = 0;
      if (snprintf(space, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) space[0] = 0;
    }
    if (!strncmp(space, folder, folder_length) && (space[folder_length] == '/' || !space[folder_length]))
      found = space;
  }
  errno = saved;
  return found;
}

static int is_watched(int descriptor) {
  return mode != OFF && descriptor >= 0 && descriptor < MAX_DESCRIPTORS && watched[descriptor];
}

static uint64_t inode_of(int descriptor) {
  struct stat status;
  int saved = errno;
  uint64_t inode = fstat(descriptor, &status) ? 0 : (uint64_t)status.st_ino;
  errno = saved;
  return inode;
}

static uint64_t inode_at(const char *path) {
  struct stat status;
  int saved = errno;
  uint64_t inode = lstat(path, &status) ? 0 : (uint64_t)status.st_ino;
  errno = saved;
  return inode;
}

/* ---- the log of a recording ------------------------------------------------------------------------------------- */

static void put(const void *bytes, size_t n) {
  const char *at = bytes;
  while (n) {
    ssize_t done = syscall(SYS_write, record_descriptor, at, n);
    if (done <= 0) abort();
    at += done, n -= (size_t)done;
  }
}

/* One line: kind, inode, offset, then two names and the bytes, each with its length. */
static void record(int kind, uint64_t inode, int64_t offset, const char *a, const char *b, const void *bytes,
                   size_t n) {
  uint32_t head[2] = {(uint32_t)kind, 0};
  uint64_t numbers[2] = {inode, (uint64_t)offset};
  uint32_t lengths[3] = {a ? (uint32_t)strlen(a) : 0, b ? (uint32_t)strlen(b) : 0, (uint32_t)n};
  int saved = errno;
  if (record_descriptor < 0) return;
  put(head, sizeof head);
  put(numbers, sizeof numbers);
  put(lengths, sizeof lengths);
  put(a, lengths[0]);
  put(b, lengths[1]);
  put(bytes, n);
  errno = saved;
}

/* A second name outside the folder, so that the inode lives on and its number is not given again. */
static void keep_inode(const char *path) {
  char name[PATH_MAX + 32];
  int saved = errno;
  if (keep[0]) {
    snprintf(name, sizeof name, "%s/%llu", keep, (unsigned long long)inode_at(path));
    syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, name, 0);
  }
  errno = saved;
}

/* ---- the chosen call -------------------------------------------------------------------------------------------- */

static void end_now(void) {
  syscall(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}

/* Count a call that needs so many more bytes of the disk. 0: go on; 1: fail it with errno set; 2: do its first bytes
 * and end. */
static int reached_with(int kind, int64_t needs) {
  int hit;
  if (mode == OFF || !(kinds & (1u << kind))) return 0;
  if (counted < MAX_KINDS) kind_at[counted] = (unsigned char)kind;
  counted++;
  if (mode == COUNT) return 0;
  hit = mode == FAIL_ON || mode == FULL ? counted >= chosen : counted == chosen;
  if (!hit) return 0;
  if (mode == FULL) {
    if (needs <= room) return room -= needs, 0;
    fired = 1;
    errno = ENOSPC;
    return 1;
  }
  fired = 1;
  if (mode == KILL) end_now();
  if (mode == TEAR) {
    if (kind != K_WRITE) end_now();
    return 2;
  }
  errno = failure;
  return 1;
}

static int reached(int kind) { return reached_with(kind, 0); }

/* On a disk that is full, what is removed makes room. */
static void freed(int64_t n) {
  if (mode == FULL && fired && n > 0) room += n;
}

static int64_t size_of(int descriptor) {
  struct stat status;
  int saved = errno;
  int64_t size = fstat(descriptor, &status) ? 0 : (int64_t)status.st_size;
  errno = saved;
  return size;
}

static size_t cut(size_t n) {
  size_t kept = n * (size_t)cut_permille / 1000;
  if (cut_to_sector) kept = kept / 512 * 512;
  return kept < n ? kept : n - (n > 0);
}

/* ---- told from Python ------------------------------------------------------------------------------------------- */

void crash_shim_watch(const char *path) {
  pthread_mutex_lock(&lock);
  snprintf(folder, sizeof folder, "%s", path);
  folder_length = strlen(folder);
  memset(watched, 0, sizeof watched);
  pthread_mutex_unlock(&lock);
}

void crash_shim_arm(int what, unsigned counted_kinds, long at, int with_errno, int permille, int to_sector) {
  pthread_mutex_lock(&lock);
  mode = what, kinds = counted_kinds, chosen = at, failure = with_errno;
  cut_permille = permille, cut_to_sector = to_sector, counted = 0, fired = 0, room = 0;
  pthread_mutex_unlock(&lock);
}

/* The fault is gone; descriptors that are open stay known, so that a recording goes on. */
void crash_shim_lift(void) {
  pthread_mutex_lock(&lock);
  if (mode != OFF) mode = COUNT;
  pthread_mutex_unlock(&lock);
}

void crash_shim_record(int descriptor, const char *kept) {
  pthread_mutex_lock(&lock);
  record_descriptor = descriptor;
  snprintf(keep, sizeof keep, "%s", kept);
  pthread_mutex_unlock(&lock);
}

void crash_shim_mark(const void *bytes, size_t n) {
  pthread_mutex_lock(&lock);
  record(K_MARK, 0, 0, NULL, NULL, bytes, n);
  pthread_mutex_unlock(&lock);
}

long crash_shim_counted(void) { return counted; }
int crash_shim_fired(void) { return fired; }
int crash_shim_kind_at(long at) { return at >= 0 && at < MAX_KINDS ? kind_at[at] : 0; }

/* ---- opening and closing ---------------------------------------------------------------------------------------- */

static int do_open(int at, const char *path, int flags, mode_t permissions) {
  char space[PATH_MAX];
  const char *full = mode == OFF ? NULL : inside(at, path, space);
  int creates, truncates, descriptor, known;
  if (!full) {
    descriptor = (int)syscall(SYS_openat, at, path, flags, permissions);
    if (descriptor >= 0 && descriptor < MAX_DESCRIPTORS) watched[descriptor] = 0;
    return descriptor;
  }
  pthread_mutex_lock(&lock);
  known = inode_at(full) != 0;
  creates = (flags & O_CREAT) && !known;
  truncates = (flags & O_TRUNC) && known;
  descriptor = -1;
  if (!reached_with(creates || truncates ? K_CREATE : K_OPEN, creates ? FILE_NEEDS : 0))
    descriptor = (int)syscall(SYS_openat, at, path, flags, permissions);
  if (descriptor >= 0 && descriptor < MAX_DESCRIPTORS) {
    watched[descriptor] = 1;
    if (creates) record(K_CREATE, inode_of(descriptor), 0, full, NULL, NULL, 0), keep_inode(full);
    if (truncates) record(K_TRUNCATE, inode_of(descriptor), 0, NULL, NULL, NULL, 0);
  }
  pthread_mutex_unlock(&lock);
  return descriptor;
}

#define PERMISSIONS \
  mode_t permissions = 0; \
  if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list more; \
    va_start(more, flags); \
    permissions = va_arg(more, mode_t); \
    va_end(more); \
  }

int open(const char *path, int flags, ...) { PERMISSIONS return do_open(AT_FDCWD, path, flags, permissions); }
int open64(const char *path, int flags, ...) { PERMISSIONS return do_open(AT_FDCWD, path, flags, permissions); }
int openat(int at, const char *path, int flags, ...) { PERMISSIONS return do_open(at, path, flags, permissions); }
int openat64(int at, const char *path, int flags, ...) { PERMISSIONS return do_open(at, path, flags, permissions); }
int __open_2(const char *path, int flags) { return do_open(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return do_open(AT_FDCWD, path, flags, 0); }
int __openat_2(int at, const char *path, int flags) { return do_open(at, path, flags, 0); }
int __openat64_2(int at, const char *path, int flags) { return do_open(at, path, flags, 0); }
int creat(const char *path, mode_t to) { return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, to); }
int creat64(const char *path, mode_t to) { return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, to); }

int close(int descriptor) {
  if (descriptor >= 0 && descriptor < MAX_DESCRIPTORS) watched[descriptor] = 0;
  return (int)syscall(SYS_close, descriptor);
}

/* ---- reading and writing ---------------------------------------------------------------------------------------- */

/* offset -1: where the descriptor stands. */
static ssize_t do_write(int descriptor, const void *bytes, size_t n, off_t offset) {
  ssize_t done = -1;
  off_t from = offset;
  int64_t more;
  int what;
  if (!is_watched(descriptor))
    return offset < 0 ? syscall(SYS_write, descriptor, bytes, n) : syscall(SYS_pwrite64, descriptor, bytes, n, offset);
  pthread_mutex_lock(&lock);
  if (offset < 0) {
    int flags = fcntl(descriptor, F_GETFL);
    from = lseek(descriptor, 0, flags >= 0 && (flags & O_APPEND) ? SEEK_END : SEEK_CUR);
  }
  /* What is written over takes no more room. */
  more = from + (int64_t)n - size_of(descriptor);
  what = reached_with(K_WRITE, more > 0 ? more : 0);
  /* A disk that fills up takes what still fits, and refuses the next call. */
  if (what == 1 && mode == FULL && counted == chosen && n > 1) what = 0, n /= 2;
  if (what == 2) n = cut(n);
  if (what != 1)
    done = offset < 0 ? syscall(SYS_write, descriptor, bytes, n) : syscall(SYS_pwrite64, descriptor, bytes, n, offset);
  if (done > 0) record(K_WRITE, inode_of(descriptor), from, NULL, NULL, bytes, (size_t)done);
  if (what == 2) end_now();
  pthread_mutex_unlock(&lock);
  return done;
}

ssize_t write(int descriptor, const void *bytes, size_t n) { return do_write(descriptor, bytes, n, -1); }
ssize_t pwrite(int descriptor, const void *bytes, size_t n, off_t at) { return do_write(descriptor, bytes, n, at); }
ssize_t pwrite64(int descriptor, const void *bytes, size_t n, off64_t at) { return do_write(descriptor, bytes, n, at); }

static ssize_t do_writev(int descriptor, const struct iovec *parts, int n_parts, off_t offset) {
  size_t n = 0;
  char *joined;
  ssize_t done;
  for (int i = 0; i < n_parts; i++) n += parts[i].iov_len;
  joined = malloc(n ? n : 1);
  if (!joined) return errno = ENOMEM, -1;
  n = 0;
  for (int i = 0; i < n_parts; i++) memcpy(joined + n, parts[i].iov_base, parts[i].iov_len), n += parts[i].iov_len;
  done = do_write(descriptor, joined, n, offset);
  free(joined);
  return done;
}

ssize_t writev(int descriptor, const struct iovec *parts, int n) {
  return is_watched(descriptor) ? do_writev(descriptor, parts, n, -1) : syscall(SYS_writev, descriptor, parts, n);
}
ssize_t pwritev(int descriptor, const struct iovec *parts, int n, off_t at) {
  return do_writev(descriptor, parts, n, at);
}
ssize_t pwritev64(int descriptor, const struct iovec *parts, int n, off64_t at) {
  return do_writev(descriptor, parts, n, at);
}

static int read_fails(int descriptor) {
  int fails = 0;
  if (is_watched(descriptor)) {
    pthread_mutex_lock(&lock);
    fails = reached(K_READ) == 1;
    pthread_mutex_unlock(&lock);
  }
  return fails;
}

ssize_t read(int descriptor, void *bytes, size_t n) {
  return read_fails(descriptor) ? -1 : syscall(SYS_read, descriptor, bytes, n);
}
ssize_t pread(int descriptor, void *bytes, size_t n, off_t at) {
  return read_fails(descriptor) ? -1 : syscall(SYS_pread64, descriptor, bytes, n, at);
}
ssize_t pread64(int descriptor, void *bytes, size_t n, off64_t at) {
  return read_fails(descriptor) ? -1 : syscall(SYS_pread64, descriptor, bytes, n, at);
}

/* Copies inside the kernel would not be seen: refused, so that the caller reads and writes. */
ssize_t sendfile(int to, int from, off_t *at, size_t n) {
  if (is_watched(to)) return errno = EINVAL, -1;
  return syscall(SYS_sendfile, to, from, at, n);
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t n) {
  if (is_watched(to)) return errno = EINVAL, -1;
  return syscall(SYS_sendfile, to, from, at, n);
}
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t n, unsigned flags) {
  if (is_watched(to)) return errno = EXDEV, -1;
  return syscall(SYS_copy_file_range, from, from_at, to, to_at, n, flags);
}

/* ---- syncing, sizes --------------------------------------------------------------------------------------------- */

static int do_sync(int descriptor, long number) {
  int done = -1;
  if (!is_watched(descriptor)) return (int)syscall(number, descriptor);
  pthread_mutex_lock(&lock);
  if (!reached(K_SYNC)) done = (int)syscall(number, descriptor);
  if (!done) record(K_SYNC, inode_of(descriptor), 0, NULL, NULL, NULL, 0);
  pthread_mutex_unlock(&lock);
  return done;
}

int fsync(int descriptor) { return do_sync(descriptor, SYS_fsync); }
int fdatasync(int descriptor) { return do_sync(descriptor, SYS_fdatasync); }

static int do_truncate(int descriptor, off_t size) {
  int done = -1;
  int64_t before;
  if (!is_watched(descriptor)) return (int)syscall(SYS_ftruncate, descriptor, size);
  pthread_mutex_lock(&lock);
  before = size_of(descriptor);
  if (!reached(K_TRUNCATE)) done = (int)syscall(SYS_ftruncate, descriptor, size);
  if (!done) freed(before - size), record(K_TRUNCATE, inode_of(descriptor), size, NULL, NULL, NULL, 0);
  pthread_mutex_unlock(&lock);
  return done;
}

int ftruncate(int descriptor, off_t size) { return do_truncate(descriptor, size); }
int ftruncate64(int descriptor, off64_t size) { return do_truncate(descriptor, size); }

static int do_truncate_name(const char *path, off_t size) {
  int descriptor = do_open(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0), done;
  if (descriptor < 0) return -1;
  done = do_truncate(descriptor, size);
  close(descriptor);
  return done;
}

int truncate(const char *path, off_t size) { return do_truncate_name(path, size); }
int truncate64(const char *path, off64_t size) { return do_truncate_name(path, size); }

static int do_allocate(int descriptor, int flags, off_t from, off_t n) {
  int done = -1;
  int64_t more;
  if (!is_watched(descriptor)) return (int)syscall(SYS_fallocate, descriptor, flags, from, n);
  pthread_mutex_lock(&lock);
  more = from + n - size_of(descriptor);
  if (!reached_with(K_ALLOCATE, more > 0 ? more : 0)) done = (int)syscall(SYS_fallocate, descriptor, flags, from, n);
  if (!done && !flags) record(K_ALLOCATE, inode_of(descriptor), from + n, NULL, NULL, NULL, 0);
  pthread_mutex_unlock(&lock);
  return done;
}

int fallocate(int descriptor, int flags, off_t from, off_t n) { return do_allocate(descriptor, flags, from, n); }
int fallocate64(int descriptor, int flags, off64_t from, off64_t n) { return do_allocate(descriptor, flags, from, n); }
int posix_fallocate(int descriptor, off_t from, off_t n) { return do_allocate(descriptor, 0, from, n) ? errno : 0; }
int posix_fallocate64(int descriptor, off64_t from, off64_t n) {
  return do_allocate(descriptor, 0, from, n) ? errno : 0;
}

/* ---- names ------------------------------------------------------------------------------------------------------ */

static int do_rename(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
  char a[PATH_MAX], b[PATH_MAX];
  const char *full_from = mode == OFF ? NULL : inside(from_at, from, a);
  const char *full_to = mode == OFF ? NULL : inside(to_at, to, b);
  int done = -1;
  if (!full_from && !full_to) return (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
  pthread_mutex_lock(&lock);
  if (!reached(K_RENAME)) done = (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
  if (!done) record(K_RENAME, inode_at(full_to ? full_to : to), 0, full_from, full_to, NULL, 0);
  pthread_mutex_unlock(&lock);
  return done;
}

int rename(const char *from, const char *to) { return do_rename(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return do_rename(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { return do_rename(a, from, b, to, flags); }

static int do_unlink(int at, const char *path, int flags) {
  char space[PATH_MAX];
  const char *full = mode == OFF ? NULL : inside(at, path, space);
  int done = -1, kind = flags & AT_REMOVEDIR ? K_RMDIR : K_UNLINK;
  uint64_t inode;
  struct stat status = {0};
  if (!full) return (int)syscall(SYS_unlinkat, at, path, flags);
  pthread_mutex_lock(&lock);
  inode = inode_at(full);
  if (inode) lstat(full, &status);
  /* Asking for what is not there changes nothing and is no point of its own. */
  if (!inode || !reached(kind)) done = (int)syscall(SYS_unlinkat, at, path, flags);
  if (!done) freed(status.st_size), record(kind, inode, 0, full, NULL, NULL, 0);
  pthread_mutex_unlock(&lock);
  return done;
}

int unlink(const char *path) { return do_unlink(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return do_unlink(at, path, flags); }
int rmdir(const char *path) { return do_unlink(AT_FDCWD, path, AT_REMOVEDIR); }

static int do_mkdir(int at, const char *path, mode_t permissions) {
  char space[PATH_MAX];
  const char *full = mode == OFF ? NULL : inside(at, path, space);
  int done = -1;
  if (!full) return (int)syscall(SYS_mkdirat, at, path, permissions);
  pthread_mutex_lock(&lock);
  if (inode_at(full) || !reached(K_MKDIR)) done = (int)syscall(SYS_mkdirat, at, path, permissions);
  if (!done) record(K_MKDIR, inode_at(full), 0, full, NULL, NULL, 0);
  pthread_mutex_unlock(&lock);
  return done;
}

int mkdir(const char *path, mode_t permissions) { return do_mkdir(AT_FDCWD, path, permissions); }
int mkdirat(int at, const char *path, mode_t permissions) { return do_mkdir(at, path, permissions); }

static int do_link(int from_at, const char *from, int to_at, const char *to, int flags) {
  char space[PATH_MAX];
  const char *full = mode == OFF ? NULL : inside(to_at, to, space);
  int done = -1;
  if (!full) return (int)syscall(SYS_linkat, from_at, from, to_at, to, flags);
  pthread_mutex_lock(&lock);
  if (!reached(K_LINK)) done = (int)syscall(SYS_linkat, from_at, from, to_at, to, flags);
  if (!done) record(K_LINK, inode_at(full), 0, full, NULL, NULL, 0);
  pthread_mutex_unlock(&lock);
  return done;
}

int link(const char *from, const char *to) { return do_link(AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int a, const char *from, int b, const char *to, int flags) { return do_link(a, from, b, to, flags); }
