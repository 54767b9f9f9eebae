/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LD_PRELOAD library that kills the process (SIGKILL) at its N-th call that changes what is, or will be,
 * on disk below a path. Test only.
 *
 *   KILLPOINT_PREFIX  absolute path prefix; calls on other files pass and are not counted
 *   KILLPOINT_AT      1 kills at the first counted call; unset or 0: only count
 *   KILLPOINT_WHEN    before (default) | after | torn: the first half of the bytes is written, then the
 *                     kill; calls that write no bytes are killed before
 *   KILLPOINT_SECTOR  torn writes end at a multiple of so many bytes of the call (512: a disk's promise); 1 if unset
 *   KILLPOINT_ARM     nothing is counted before this file exists
 *   KILLPOINT_IOCTL   1: ioctls that change a device-mapper device or an endpoint count, too
 *   KILLPOINT_COUNT   file that receives the number of counted calls when the process exits by itself
 *   KILLPOINT_LOG     file to which the name of each counted call is appended, for people
 *
 * Counted: write, pwrite, writev, pwritev, pwritev2 (and the 64-bit names), fsync, fdatasync,
 * sync_file_range, ftruncate, truncate, fallocate, posix_fallocate, open and openat with O_CREAT or
 * O_TRUNC, creat, rename, renameat, renameat2, link, linkat, symlink, unlink, unlinkat, mkdir, rmdir.
 * Not seen: what libc does within itself (stdio), io_submit, io_uring, stores to a mapping, static binaries.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum moment { BEFORE, AFTER, TORN };

static atomic_ulong counted;

/* Straight to the kernel: the wrappers below must not count what is written here. */
static void put_line(const char *file, const char *text, int flags)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);

	if (fd < 0)
		return;
	syscall(SYS_write, fd, text, strlen(text));
	syscall(SYS_close, fd);
}

static enum moment moment_wanted(void)
{
	const char *when = getenv("KILLPOINT_WHEN");

	if (when && strcmp(when, "after") == 0)
		return AFTER;
	return when && strcmp(when, "torn") == 0 ? TORN : BEFORE;
}

/* How many bytes of `size` a torn write leaves. */
static size_t torn_size(size_t size)
{
	const char *text = getenv("KILLPOINT_SECTOR");
	size_t sector = text ? strtoul(text, NULL, 10) : 1;

	return sector > 1 ? size / 2 - size / 2 % sector : size / 2;
}

static bool path_matches(const char *path)
{
	const char *prefix = getenv("KILLPOINT_PREFIX");
	char absolute[PATH_MAX];

	if (!prefix || !path)
		return false;
	if (path[0] == '/')
		return strncmp(path, prefix, strlen(prefix)) == 0;
	if (!getcwd(absolute, sizeof(absolute) - 1))
		return false;
	strcat(absolute, "/");
	strncat(absolute, path, sizeof(absolute) - strlen(absolute) - 1);
	return strncmp(absolute, prefix, strlen(prefix)) == 0;
}

static bool fd_matches(int fd)
{
	char link[64], path[PATH_MAX];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return false;
	path[length] = '\0';
	return path_matches(path);
}

static void die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

/* Counts one call; true when it is the one to die at. */
static bool reached(const char *name)
{
	const char *at = getenv("KILLPOINT_AT");
	const char *log = getenv("KILLPOINT_LOG");
	const char *arm = getenv("KILLPOINT_ARM");
	unsigned long now;
	char line[64];

	if (arm && syscall(SYS_faccessat, AT_FDCWD, arm, F_OK) != 0)
		return false;
	now = atomic_fetch_add(&counted, 1) + 1;
	if (log) {
		snprintf(line, sizeof(line), "%lu %s\n", now, name);
		put_line(log, line, O_APPEND);
	}
	return at && strtoul(at, NULL, 10) == now;
}

/* The call is `real(...)`; without bytes to tear, torn means before. */
#define AROUND(matches, name, real, result)                  \
	do {                                                     \
		bool last_ = (matches) && reached(name);             \
		if (last_ && moment_wanted() != AFTER)               \
			die();                                           \
		result = (real);                                     \
		if (last_)                                           \
			die();                                           \
	} while (0)

#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

#define PLAIN(type, name, params, args, matches)             \
	type name params                                         \
	{                                                        \
		type (*real) params = NEXT(type(*) params, #name);   \
		type result;                                         \
		AROUND(matches, #name, real args, result);           \
		return result;                                       \
	}

/* With bytes: `half` is the same call with half of them. */
#define WRITING(name, params, args, half)                    \
	ssize_t name params                                      \
	{                                                        \
		ssize_t (*real) params = NEXT(ssize_t(*) params, #name); \
		ssize_t result;                                      \
		bool last = fd_matches(fd) && reached(#name);        \
		if (last && moment_wanted() == BEFORE)               \
			die();                                           \
		if (last && moment_wanted() == TORN)                 \
			result = (half);                                 \
		else                                                 \
			result = real args;                              \
		if (last)                                            \
			die();                                           \
		return result;                                       \
	}

WRITING(write, (int fd, const void *bytes, size_t size), (fd, bytes, size), real(fd, bytes, torn_size(size)))
WRITING(pwrite, (int fd, const void *bytes, size_t size, off_t at), (fd, bytes, size, at),
	real(fd, bytes, torn_size(size), at))
WRITING(pwrite64, (int fd, const void *bytes, size_t size, off64_t at), (fd, bytes, size, at),
	real(fd, bytes, torn_size(size), at))

/* Half of a vector is its first half of parts, or half of its only part. */
static ssize_t half_vector(int fd, const struct iovec *parts, int count, off64_t at)
{
	struct iovec half = {parts[0].iov_base, parts[0].iov_len / 2};

	if (count == 1)
		return at < 0 ? syscall(SYS_writev, fd, &half, 1) :
				syscall(SYS_pwritev, fd, &half, 1, (long)at, 0L);
	return at < 0 ? syscall(SYS_writev, fd, parts, count / 2) :
			syscall(SYS_pwritev, fd, parts, count / 2, (long)at, 0L);
}

WRITING(writev, (int fd, const struct iovec *parts, int count), (fd, parts, count),
	half_vector(fd, parts, count, -1))
WRITING(pwritev, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at),
	half_vector(fd, parts, count, at))
WRITING(pwritev64, (int fd, const struct iovec *parts, int count, off64_t at), (fd, parts, count, at),
	half_vector(fd, parts, count, at))
WRITING(pwritev2, (int fd, const struct iovec *parts, int count, off_t at, int flags),
	(fd, parts, count, at, flags), half_vector(fd, parts, count, at))
WRITING(pwritev64v2, (int fd, const struct iovec *parts, int count, off64_t at, int flags),
	(fd, parts, count, at, flags), half_vector(fd, parts, count, at))

PLAIN(int, fsync, (int fd), (fd), fd_matches(fd))
PLAIN(int, fdatasync, (int fd), (fd), fd_matches(fd))
PLAIN(int, sync_file_range, (int fd, off64_t at, off64_t size, unsigned int flags), (fd, at, size, flags),
      fd_matches(fd))
PLAIN(int, ftruncate, (int fd, off_t size), (fd, size), fd_matches(fd))
PLAIN(int, ftruncate64, (int fd, off64_t size), (fd, size), fd_matches(fd))
PLAIN(int, truncate, (const char *path, off_t size), (path, size), path_matches(path))
PLAIN(int, truncate64, (const char *path, off64_t size), (path, size), path_matches(path))
PLAIN(int, fallocate, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size), fd_matches(fd))
PLAIN(int, fallocate64, (int fd, int mode, off64_t at, off64_t size), (fd, mode, at, size), fd_matches(fd))
PLAIN(int, posix_fallocate, (int fd, off_t at, off_t size), (fd, at, size), fd_matches(fd))
PLAIN(int, posix_fallocate64, (int fd, off64_t at, off64_t size), (fd, at, size), fd_matches(fd))
PLAIN(int, rename, (const char *from, const char *to), (from, to), path_matches(to) || path_matches(from))
PLAIN(int, link, (const char *from, const char *to), (from, to), path_matches(to))
PLAIN(int, symlink, (const char *target, const char *path), (target, path), path_matches(path))
PLAIN(int, unlink, (const char *path), (path), path_matches(path))
PLAIN(int, mkdir, (const char *path, mode_t mode), (path, mode), path_matches(path))
PLAIN(int, rmdir, (const char *path), (path), path_matches(path))

/* A path relative to a directory descriptor counts when the directory does. */
static bool at_matches(int directory, const char *path)
{
	if (path[0] == '/' || directory == AT_FDCWD)
		return path_matches(path);
	return fd_matches(directory);
}

PLAIN(int, renameat, (int from_dir, const char *from, int to_dir, const char *to), (from_dir, from, to_dir, to),
      at_matches(to_dir, to) || at_matches(from_dir, from))
PLAIN(int, renameat2, (int from_dir, const char *from, int to_dir, const char *to, unsigned int flags),
      (from_dir, from, to_dir, to, flags), at_matches(to_dir, to) || at_matches(from_dir, from))
PLAIN(int, linkat, (int from_dir, const char *from, int to_dir, const char *to, int flags),
      (from_dir, from, to_dir, to, flags), at_matches(to_dir, to))
PLAIN(int, unlinkat, (int directory, const char *path, int flags), (directory, path, flags),
      at_matches(directory, path))
PLAIN(int, creat, (const char *path, mode_t mode), (path, mode), path_matches(path))
PLAIN(int, creat64, (const char *path, mode_t mode), (path, mode), path_matches(path))

/* By number, <linux/dm-ioctl.h> and <dek/ioctl.h>: not what only asks, or waits. */
static bool changes(unsigned long request)
{
	unsigned int number = _IOC_NR(request);

	if (!getenv("KILLPOINT_IOCTL"))
		return false;
	if (_IOC_TYPE(request) == 0xfd) /* create, remove, rename, suspend and resume, load, clear, message */
		return (number >= 3 && number <= 6) || number == 9 || number == 10 || number == 14;
	/* the endpoints' command, map, quiesce, release, yield, fence, engine */
	return _IOC_TYPE(request) == 0xde && ((number >= 1 && number <= 6) || number == 0xd);
}

int ioctl(int fd, unsigned long request, ...)
{
	int (*real)(int, unsigned long, ...) = NEXT(int (*)(int, unsigned long, ...), "ioctl");
	va_list list;
	void *argument;
	int result;

	va_start(list, request);
	argument = va_arg(list, void *);
	va_end(list);
	AROUND(changes(request) && fd_matches(fd), "ioctl", real(fd, request, argument), result);
	return result;
}

static mode_t mode_of(int flags, va_list list)
{
	return flags & (O_CREAT | __O_TMPFILE) ? (mode_t)va_arg(list, int) : 0;
}

#define OPENING(name)                                        \
	int name(const char *path, int flags, ...)               \
	{                                                        \
		int (*real)(const char *, int, ...) = NEXT(int (*)(const char *, int, ...), #name); \
		va_list list;                                        \
		mode_t mode;                                         \
		int result;                                          \
		va_start(list, flags);                               \
		mode = mode_of(flags, list);                         \
		va_end(list);                                        \
		AROUND((flags & (O_CREAT | O_TRUNC)) && path_matches(path), #name, real(path, flags, mode), result); \
		return result;                                       \
	}

OPENING(open)
OPENING(open64)

#define OPENING_AT(name)                                     \
	int name(int directory, const char *path, int flags, ...) \
	{                                                        \
		int (*real)(int, const char *, int, ...) = NEXT(int (*)(int, const char *, int, ...), #name); \
		va_list list;                                        \
		mode_t mode;                                         \
		int result;                                          \
		va_start(list, flags);                               \
		mode = mode_of(flags, list);                         \
		va_end(list);                                        \
		AROUND((flags & (O_CREAT | O_TRUNC)) && at_matches(directory, path), #name, \
		       real(directory, path, flags, mode), result);  \
		return result;                                       \
	}

OPENING_AT(openat)
OPENING_AT(openat64)

__attribute__((destructor)) static void report(void)
{
	const char *file = getenv("KILLPOINT_COUNT");
	char line[32];

	if (!file)
		return;
	snprintf(line, sizeof(line), "%lu\n", atomic_load(&counted));
	put_line(file, line, O_TRUNC);
}
