// SPDX-License-Identifier: Apache-2.0
/*
 * A program that uses dma-heaps and does not use Anion's interfaces. Some of its functions make
 * system calls without the C library. Its first argument selects a function. It exits with 0 if all
 * results are those of a machine with the device.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HEAP "/dev/dma_heap/system"
#define BYTES (64 << 10)

#define CHECK(condition) \
	do { \
		if (!(condition)) \
			errx(1, "line %d: %s (errno %d, %s)", __LINE__, #condition, errno, strerror(errno)); \
	} while (0)

static int allocate(int heap)
{
	struct dma_heap_allocation_data data = {.len = BYTES, .fd_flags = O_RDWR | O_CLOEXEC};

	return syscall(SYS_ioctl, heap, DMA_HEAP_IOCTL_ALLOC, &data) ? -1 : (int)data.fd;
}

/* Opens, allocates, writes, reads and closes by raw system calls. */
static void raw(void)
{
	int heap = syscall(SYS_openat, AT_FDCWD, HEAP, O_RDWR | O_CLOEXEC, 0);
	CHECK(heap >= 0);
	CHECK(fcntl(heap, F_GETFD) == FD_CLOEXEC);
	int buffer = allocate(heap);
	CHECK(buffer >= 0);
	CHECK(fcntl(buffer, F_GETFD) == FD_CLOEXEC);
	unsigned char *bytes = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, buffer, 0);
	CHECK(bytes != MAP_FAILED);
	CHECK(bytes[0] == 0 && bytes[BYTES - 1] == 0);
	memset(bytes, 0xa5, BYTES);
	CHECK(bytes[BYTES / 2] == 0xa5);
	CHECK(munmap(bytes, BYTES) == 0);
	CHECK(close(buffer) == 0 && close(heap) == 0);
}

/* Names the node in every way, and checks the result of each call about it. */
static void look(void)
{
	struct stat status;
	struct statx extended;
	char link[16];
	struct {
		unsigned long long flags, mode, resolve;
	} how = {.flags = O_RDONLY | O_CLOEXEC};

	int heap = syscall(SYS_openat2, AT_FDCWD, "/dev//./dma_heap/../dma_heap/system", &how, sizeof how);
	CHECK(heap >= 0);
	CHECK(fcntl(heap, F_GETFD) == FD_CLOEXEC);
	CHECK(syscall(SYS_fstat, heap, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev != 0);
	dev_t device = status.st_rdev;
	CHECK(fstat(heap, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == device);
	CHECK(stat(HEAP, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == device);
	CHECK(lstat(HEAP, &status) == 0 && S_ISCHR(status.st_mode));
	CHECK(statx(heap, "", AT_EMPTY_PATH, STATX_TYPE, &extended) == 0 && S_ISCHR(extended.stx_mode));
	CHECK(statx(AT_FDCWD, HEAP, 0, STATX_TYPE, &extended) == 0 && S_ISCHR(extended.stx_mode));
	CHECK(access(HEAP, R_OK | W_OK) == 0);
	CHECK(access(HEAP, X_OK) == -1 && errno == EACCES);
	CHECK(faccessat(AT_FDCWD, HEAP, F_OK, 0) == 0);
	CHECK(readlink(HEAP, link, sizeof link) == -1 && errno == EINVAL);
	CHECK(ioctl(heap, _IOWR('H', 7, int), &status) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_ioctl, heap, DMA_HEAP_IOCTL_ALLOC, NULL) == -1 && errno == EFAULT);

	int other = dup(heap);
	CHECK(close(heap) == 0);
	int buffer = allocate(other);
	CHECK(buffer >= 0 && close(buffer) == 0 && close(other) == 0);
	CHECK(allocate(other) == -1 && errno == EBADF);

	CHECK(chdir("/dev") == 0);
	heap = open("dma_heap/system", O_RDWR);
	CHECK(heap >= 0 && fcntl(heap, F_GETFD) == 0 && close(heap) == 0);
	int directory = open("/dev", O_RDONLY | O_DIRECTORY);
	CHECK(fstatat(directory, "dma_heap/system", &status, AT_SYMLINK_NOFOLLOW) == 0);
	CHECK(S_ISCHR(status.st_mode) && close(directory) == 0);

	CHECK(stat("/dev/dma_heap/..", &status) == 0 && S_ISDIR(status.st_mode));
	CHECK(open("/dev/dma_heap/none", O_RDWR) == -1 && errno == ENOENT);
	CHECK(open(HEAP "/", O_RDWR) == -1 && (errno == ENOTDIR || errno == ENOENT));
	CHECK(open(HEAP, O_RDONLY | O_DIRECTORY) == -1 && errno == ENOTDIR);
	CHECK(open(HEAP, O_RDWR | O_CREAT | O_EXCL, 0600) == -1 && errno == EEXIST);
	CHECK(open("/dev/dma_heap", O_RDWR) == -1 && errno == EISDIR);
	CHECK(syscall(SYS_openat, AT_FDCWD, NULL, O_RDONLY, 0) == -1 && errno == EFAULT);
	CHECK(open("/dev/null", O_RDWR) >= 0);
}

/* Reads the directory of heaps twice, then in the smallest pieces that the kernel permits. */
static void list(void)
{
	DIR *directory = opendir("/dev/dma_heap");
	struct stat status;
	int counts[2] = {0, 0};
	char piece[64];

	CHECK(directory != NULL);
	CHECK(fstat(dirfd(directory), &status) == 0 && S_ISDIR(status.st_mode));
	for (int time = 0; time < 2; time++) {
		int is_there = 0;
		for (struct dirent *entry; (entry = readdir(directory));) {
			if (entry->d_name[0] == '.')
				continue;
			CHECK(entry->d_type == DT_CHR);
			CHECK(fstatat(dirfd(directory), entry->d_name, &status, 0) == 0);
			CHECK(S_ISCHR(status.st_mode) && status.st_ino == entry->d_ino);
			int heap = openat(dirfd(directory), entry->d_name, O_RDWR);
			CHECK(heap >= 0 && close(heap) == 0);
			is_there |= !strcmp(entry->d_name, "system");
			counts[time]++;
		}
		CHECK(is_there);
		rewinddir(directory);
	}
	CHECK(counts[0] == counts[1]);
	int pieces = 0;
	while (syscall(SYS_getdents64, dirfd(directory), piece, 8) == -1 && pieces == 0) {
		CHECK(errno == EINVAL);
		while (syscall(SYS_getdents64, dirfd(directory), piece, sizeof piece) > 0)
			pieces++;
	}
	CHECK(pieces > 1);
	CHECK(closedir(directory) == 0);
}

static void *allocate_often(void *heap)
{
	for (int i = 0; i < 50; i++) {
		int buffer = allocate(*(int *)heap);
		CHECK(buffer >= 0 && close(buffer) == 0);
		int null = open("/dev/null", O_RDONLY);
		CHECK(null >= 0 && close(null) == 0);
	}
	return NULL;
}

static void threads(void)
{
	pthread_t all[16];
	int heap = open(HEAP, O_RDWR);

	CHECK(heap >= 0);
	for (int i = 0; i < 16; i++)
		CHECK(pthread_create(&all[i], NULL, allocate_often, &heap) == 0);
	for (int i = 0; i < 16; i++)
		CHECK(pthread_join(all[i], NULL) == 0);
}

static void on_alarm(int signal)
{
	(void)signal;
}

/* Allocates while signals arrive, and checks that no descriptor leaks. */
static void interrupted(void)
{
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
	int heap = open(HEAP, O_RDWR), first = dup(heap);

	CHECK(heap >= 0 && close(first) == 0);
	CHECK(sigaction(SIGALRM, &action, NULL) == 0);
	CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
	for (int i = 0; i < 2000; i++) {
		int buffer = allocate(heap);
		CHECK(buffer == first && close(buffer) == 0);
	}
	CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
}

/* Allocates in a child of fork, and in a child that executes this program. */
static void children(char *self)
{
	int heap = open(HEAP, O_RDWR), status;

	CHECK(heap >= 0);
	for (int i = 0; i < 2; i++) {
		pid_t child = fork();
		if (child == 0) {
			if (i == 1)
				execl(self, self, "raw", NULL);
			else
				_exit(allocate(heap) < 0);
			err(1, "exec");
		}
		CHECK(waitpid(child, &status, 0) == child && status == 0);
	}
}

/* Exits with 7. Its child allocates after that, once its standard input ends, and prints
 * "allocated". */
static void orphan(void)
{
	char byte;
	pid_t parent = getpid();

	if (fork() != 0)
		_exit(7);
	while (getppid() == parent)
		usleep(1000);
	while (read(0, &byte, 1) > 0)
		;
	raw();
	puts("allocated");
}

/* Waits for a signal, prints its name and exits with 3. */
static void wait_for_signal(void)
{
	sigset_t set;
	int number;

	sigfillset(&set);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	puts("ready");
	fflush(stdout);
	CHECK(sigwait(&set, &number) == 0);
	printf("%s\n", sigabbrev_np(number));
	exit(3);
}

/* Holds a buffer until the process is killed. */
static void hold(void)
{
	int heap = open(HEAP, O_RDWR);

	CHECK(heap >= 0 && allocate(heap) >= 0);
	puts("held");
	fflush(stdout);
	for (;;)
		pause();
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int compare(const void *one, const void *other)
{
	double a = *(const double *)one, b = *(const double *)other;

	return (a > b) - (a < b);
}

/* Prints the 50th and 99th percentile in microseconds of an allocation, and of open and fstat of
 * another file. */
static void measure(void)
{
	enum { TIMES = 5000 };
	static double spent[3][TIMES];
	const char *names[] = {"allocate", "open", "fstat"};
	struct stat status;
	int heap = open(HEAP, O_RDWR);

	for (int i = 0; i < TIMES; i++) {
		double started = now();
		int buffer = allocate(heap);
		spent[0][i] = now() - started;
		CHECK(buffer >= 0 && close(buffer) == 0);
		started = now();
		int null = open("/dev/null", O_RDONLY);
		spent[1][i] = now() - started;
		started = now();
		fstat(null, &status);
		spent[2][i] = now() - started;
		CHECK(close(null) == 0);
	}
	for (int i = 0; i < 3; i++) {
		qsort(spent[i], TIMES, sizeof(double), compare);
		printf("%s %.1f %.1f\n", names[i], spent[i][TIMES / 2], spent[i][TIMES * 99 / 100]);
	}
}

int main(int count, char **words)
{
	const char *what = count > 1 ? words[1] : "";

	if (!strcmp(what, "raw"))
		raw();
	else if (!strcmp(what, "look"))
		look();
	else if (!strcmp(what, "list"))
		list();
	else if (!strcmp(what, "threads"))
		threads();
	else if (!strcmp(what, "interrupted"))
		interrupted();
	else if (!strcmp(what, "children"))
		children(words[0]);
	else if (!strcmp(what, "orphan"))
		orphan();
	else if (!strcmp(what, "wait"))
		wait_for_signal();
	else if (!strcmp(what, "hold"))
		hold();
	else if (!strcmp(what, "measure"))
		measure();
	else if (!strcmp(what, "abort"))
		abort();
	else
		errx(2, "unknown: %s", what);
	return 0;
}
