/* Counts a process' changes of files in one folder, and stops at one of them as a test asks.

   Preloaded (LD_PRELOAD) it sees Python's operations and TensorFlow's own. Variables:
   FILES_UNDER   the folder
   FILES_LOG     each operation is appended there, a line "NAME PATH"
   FILES_AT      the number of the operation, from 1 on
   FILES_ACTION  kill: SIGKILL before it; half: after half of its bytes; full: from there on the
                 disk is full */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char under[PATH_MAX];
static int log_file = -1, counted, stop_at;
static enum { KILL, HALF, FULL } action;
enum { GO_ON, WRITE_HALF, FAIL };

__attribute__((constructor)) static void start(void) {
  const char *folder = getenv("FILES_UNDER"), *log = getenv("FILES_LOG");
  const char *at = getenv("FILES_AT"), *what = getenv("FILES_ACTION");
  unsetenv("LD_PRELOAD"); /* children are not counted */
  if (!folder) return;
  strncpy(under, folder, sizeof under - 1);
  if (log) log_file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
  stop_at = at ? atoi(at) : 0;
  action = what && !strcmp(what, "half") ? HALF : what && !strcmp(what, "full") ? FULL : KILL;
}

static void stop(void) { syscall(SYS_kill, getpid(), SIGKILL); }

/* Counts an operation on a path; `takes` is true if it takes space of the disk. */
static int seen(const char *name, const char *path, int takes) {
  size_t length = strlen(under);
  if (!length || !path || strncmp(path, under, length)) return GO_ON;
  if (path[length] && path[length] != '/') return GO_ON;
  int number = __atomic_add_fetch(&counted, 1, __ATOMIC_SEQ_CST);
  if (log_file >= 0) {
    char line[PATH_MAX + 64];
    int size = snprintf(line, sizeof line, "%s %s\n", name, path + length);
    syscall(SYS_write, log_file, line, size);
  }
  if (!stop_at || number < stop_at) return GO_ON;
  if (action == FULL) return takes ? FAIL : GO_ON;
  if (number > stop_at) return GO_ON;
  if (action == HALF && (!strcmp(name, "write") || !strcmp(name, "fwrite"))) return WRITE_HALF;
  stop();
  return GO_ON;
}

static const char *of_descriptor(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, PATH_MAX - 1);
  path[size < 0 ? 0 : size] = 0;
  return path;
}

/* The absolute path of a name beside an open folder. */
static const char *at(int folder, const char *name, char *path) {
  if (name[0] == '/') return name;
  if (folder == AT_FDCWD) { if (!getcwd(path, PATH_MAX - 1)) return name; }
  else of_descriptor(folder, path);
  strncat(path, "/", PATH_MAX - strlen(path) - 1);
  strncat(path, name, PATH_MAX - strlen(path) - 1);
  return path;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FULL_DISK(failed) do { errno = ENOSPC; return failed; } while (0)

static int opening(int folder, const char *name, int flags) {
  char path[PATH_MAX];
  if (!(flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))) return GO_ON;
  const char *whole = at(folder, name, path);
  int is_new = syscall(SYS_faccessat, AT_FDCWD, whole, F_OK) != 0;
  return seen("open", whole, is_new);
}

#define OPEN(function)                                                              \
  int function(const char *name, int flags, ...) {                                  \
    va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); \
    REAL(function);                                                                 \
    if (opening(AT_FDCWD, name, flags) == FAIL) FULL_DISK(-1);                       \
    return real(name, flags, mode);                                                 \
  }
OPEN(open)
OPEN(open64)
#define OPENAT(function)                                                            \
  int function(int folder, const char *name, int flags, ...) {                      \
    va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); \
    REAL(function);                                                                 \
    if (opening(folder, name, flags) == FAIL) FULL_DISK(-1);                         \
    return real(folder, name, flags, mode);                                         \
  }
OPENAT(openat)
OPENAT(openat64)
#define FOPEN(function)                                                             \
  FILE *function(const char *name, const char *mode) {                              \
    REAL(function);                                                                 \
    int flags = strpbrk(mode, "wa+") ? O_WRONLY : O_RDONLY;                          \
    if (opening(AT_FDCWD, name, flags) == FAIL) FULL_DISK(NULL);                     \
    return real(name, mode);                                                        \
  }
FOPEN(fopen)
FOPEN(fopen64)

ssize_t write(int fd, const void *data, size_t size) {
  char path[PATH_MAX];
  REAL(write);
  int what = seen("write", of_descriptor(fd, path), 1);
  if (what == FAIL) FULL_DISK(-1);
  if (what == WRITE_HALF) { real(fd, data, size / 2); stop(); }
  return real(fd, data, size);
}
#define PWRITE(function, offset_type)                                               \
  ssize_t function(int fd, const void *data, size_t size, offset_type place) {      \
    char path[PATH_MAX];                                                            \
    REAL(function);                                                                 \
    int what = seen("write", of_descriptor(fd, path), 1);                           \
    if (what == FAIL) FULL_DISK(-1);                                                \
    if (what == WRITE_HALF) { real(fd, data, size / 2, place); stop(); }            \
    return real(fd, data, size, place);                                             \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
ssize_t writev(int fd, const struct iovec *parts, int count) {
  char path[PATH_MAX];
  REAL(writev);
  if (seen("writev", of_descriptor(fd, path), 1) == FAIL) FULL_DISK(-1);
  return real(fd, parts, count);
}
size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
  char path[PATH_MAX];
  REAL(fwrite);
  int what = seen("fwrite", of_descriptor(fileno(file), path), 1);
  if (what == FAIL) FULL_DISK(0);
  if (what == WRITE_HALF) {
    real(data, 1, size * count / 2, file);
    ((int (*)(FILE *))dlsym(RTLD_NEXT, "fflush"))(file);
    stop();
  }
  return real(data, size, count, file);
}
#define OF_STREAM(function)                                                         \
  int function(FILE *file) {                                                        \
    char path[PATH_MAX];                                                            \
    REAL(function);                                                                 \
    if (file) seen(#function, of_descriptor(fileno(file), path), 0);                \
    return real(file);                                                              \
  }
OF_STREAM(fflush)
OF_STREAM(fclose)
#define OF_DESCRIPTOR(function)                                                     \
  int function(int fd) {                                                            \
    char path[PATH_MAX];                                                            \
    REAL(function);                                                                 \
    seen(#function, of_descriptor(fd, path), 0);                                    \
    return real(fd);                                                                \
  }
OF_DESCRIPTOR(fsync)
OF_DESCRIPTOR(fdatasync)
#define TRUNCATE(function, offset_type)                                             \
  int function(int fd, offset_type size) {                                          \
    char path[PATH_MAX];                                                            \
    REAL(function);                                                                 \
    seen("truncate", of_descriptor(fd, path), 0);                                   \
    return real(fd, size);                                                          \
  }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)
int rename(const char *from, const char *to) {
  char path[PATH_MAX];
  REAL(rename);
  seen("rename", at(AT_FDCWD, to, path), 0);
  return real(from, to);
}
#define OF_NAME(function)                                                           \
  int function(const char *name) {                                                  \
    char path[PATH_MAX];                                                            \
    REAL(function);                                                                 \
    seen(#function, at(AT_FDCWD, name, path), 0);                                   \
    return real(name);                                                              \
  }
OF_NAME(unlink)
OF_NAME(rmdir)
int unlinkat(int folder, const char *name, int flags) {
  char path[PATH_MAX];
  REAL(unlinkat);
  seen("unlink", at(folder, name, path), 0);
  return real(folder, name, flags);
}
int mkdir(const char *name, mode_t mode) {
  char path[PATH_MAX];
  REAL(mkdir);
  const char *whole = at(AT_FDCWD, name, path);
  int is_new = syscall(SYS_faccessat, AT_FDCWD, whole, F_OK) != 0;
  if (seen("mkdir", whole, is_new) == FAIL) FULL_DISK(-1);
  return real(name, mode);
}
