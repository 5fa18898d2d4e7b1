/* SPDX-License-Identifier: Apache-2.0 */
/* A program that allocates from dma-heaps. */
#include "nodes.h"

#include <dirent.h>
#include <linux/dma-heap.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

#define HEAP "/dev/dma_heap/system"

static int allocate(int heap, uint64_t bytes, uint32_t flags)
{
    struct dma_heap_allocation_data data = {.len = bytes, .fd_flags = flags};
    return ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) == 0 ? (int)data.fd : -1;
}

static void check_allocation(int heap)
{
    int fd = allocate(heap, 1, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR);
    check_buffer(fd, 4096, 1);
    CHECK(close(fd) == 0);

    fd = allocate(heap, MIB, O_RDWR);
    CHECK(fd >= 0 && fcntl(fd, F_GETFD) == 0);
    check_buffer(fd, MIB, 1);
    CHECK(close(fd) == 0);

    fd = allocate(heap, 64 * KIB, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EACCES);
    void *memory = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(memory != MAP_FAILED && munmap(memory, 4096) == 0);
    CHECK(close(fd) == 0);
}

/* Checks errors that Linux 5.10 and 6.12 both return. */
static void check_errors(int heap)
{
    struct dma_heap_allocation_data data = {.len = 0, .fd_flags = O_RDWR | O_CLOEXEC};
    FAILS(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data), EINVAL);
    data.len = UINT64_MAX;
    FAILS(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data), EINVAL);
    data.len = 4096;
    data.fd = 5;
    FAILS(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data), EINVAL);
    data.fd = 0;
    data.fd_flags = O_RDWR | O_APPEND;
    FAILS(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data), EINVAL);
    data.fd_flags = O_NONBLOCK;
    FAILS(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data), EINVAL);
    data.fd_flags = O_RDWR | O_CLOEXEC;
    data.heap_flags = 1;
    FAILS(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data), EINVAL);
    data.heap_flags = 0;
    FAILS(ioctl(heap, _IOWR('H', 1, struct dma_heap_allocation_data), &data), EINVAL);
    FAILS(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, nowhere()), EFAULT);
    FAILS(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, NULL), EFAULT);
    /* The argument cannot be written, so the call allocates no buffer. */
    struct dma_heap_allocation_data *fixed =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(fixed != MAP_FAILED);
    *fixed = data;
    CHECK(mprotect(fixed, 4096, PROT_READ) == 0);
    FAILS(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, fixed), EFAULT);
    CHECK(munmap(fixed, 4096) == 0);
    FAILS(ioctl(-1, DMA_HEAP_IOCTL_ALLOC, &data), EBADF);
    FAILS(ioctl(1 << 20, DMA_HEAP_IOCTL_ALLOC, &data), EBADF);

    /* Only the last byte of the number selects the request, and the structure may be longer. */
    data = (struct dma_heap_allocation_data){.len = 4096, .fd_flags = O_RDWR};
    CHECK(ioctl(heap, _IOWR('I', 0, struct dma_heap_allocation_data), &data) == 0 && close((int)data.fd) == 0);
    char longer[32] = {0};
    data.fd = 0;
    memcpy(longer, &data, sizeof data);
    CHECK(ioctl(heap, _IOWR('H', 0, longer), longer) == 0);
    memcpy(&data, longer, sizeof data);
    CHECK(close((int)data.fd) == 0);

    FAILS(open("/dev/dma_heap/absent", O_RDONLY), ENOENT);
    FAILS(open(HEAP, O_RDONLY | O_DIRECTORY), ENOTDIR);
    FAILS(open(HEAP, O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    FAILS(open("/dev/dma_heap", O_RDWR), EISDIR);
    FAILS(access("/dev/dma_heap/absent", F_OK), ENOENT);
    FAILS(access(HEAP, X_OK), EACCES);
    CHECK(fopen("/dev/dma_heap/absent", "r") == NULL && errno == ENOENT);
}

static void check_ways_to_open(void)
{
    int directory = open("/dev/dma_heap", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(directory >= 0);
    const int fds[] = {
        open(HEAP, O_RDONLY | O_CLOEXEC),
        open("/dev/../dev/./dma_heap//system", O_RDWR),
        open64(HEAP, O_RDWR | O_CLOEXEC),
        openat(AT_FDCWD, HEAP, O_RDONLY),
        openat64(directory, "system", O_RDONLY),
        openat(directory, HEAP, O_RDONLY | O_NONBLOCK),
    };
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        CHECK(fds[i] >= 0);
        int fd = allocate(fds[i], 4096, O_RDWR);
        CHECK(fd >= 0 && close(fd) == 0);
    }
    CHECK(fcntl(fds[0], F_GETFD) == FD_CLOEXEC && (fcntl(fds[0], F_GETFL) & O_ACCMODE) == O_RDONLY);
    CHECK(fcntl(fds[1], F_GETFD) == 0 && (fcntl(fds[1], F_GETFL) & O_ACCMODE) == O_RDWR);
    CHECK(fcntl(fds[5], F_GETFL) & O_NONBLOCK);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        CHECK(close(fds[i]) == 0);
    CHECK(close(directory) == 0);

    FILE *stream = fopen(HEAP, "r+e");
    CHECK(stream != NULL && fcntl(fileno(stream), F_GETFD) == FD_CLOEXEC);
    int fd = allocate(fileno(stream), 4096, O_RDWR);
    CHECK(fd >= 0 && close(fd) == 0 && fclose(stream) == 0);

    /* The descriptor has the lowest free number, like any other. */
    int low = dup(0);
    CHECK(low >= 0 && close(low) == 0);
    fd = open(HEAP, O_RDONLY);
    CHECK(fd == low && close(fd) == 0);

    CHECK(chdir("/dev") == 0);
    fd = open("dma_heap/system", O_RDONLY);
    CHECK(fd >= 0 && close(fd) == 0);
    CHECK(chdir("/") == 0);
}

static void check_status(void)
{
    struct stat status, of_fd;
    struct statx extended;
    CHECK(stat(HEAP, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev != 0 && status.st_size == 0);
    CHECK(lstat(HEAP, &of_fd) == 0 && of_fd.st_rdev == status.st_rdev && of_fd.st_ino == status.st_ino);
    CHECK(fstatat(AT_FDCWD, HEAP, &of_fd, 0) == 0 && of_fd.st_ino == status.st_ino);
    int fd = open(HEAP, O_RDONLY);
    CHECK(fd >= 0 && fstat(fd, &of_fd) == 0);
    CHECK(S_ISCHR(of_fd.st_mode) && of_fd.st_rdev == status.st_rdev && of_fd.st_size == 0);
    CHECK(fstatat(fd, "", &of_fd, AT_EMPTY_PATH) == 0 && S_ISCHR(of_fd.st_mode));
    CHECK(statx(AT_FDCWD, HEAP, 0, STATX_BASIC_STATS, &extended) == 0 && S_ISCHR(extended.stx_mode));
    CHECK(makedev(extended.stx_rdev_major, extended.stx_rdev_minor) == status.st_rdev);
    CHECK(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &extended) == 0 && S_ISCHR(extended.stx_mode));
    CHECK(close(fd) == 0);
    CHECK(stat("/dev/dma_heap", &status) == 0 && S_ISDIR(status.st_mode));
    CHECK(access(HEAP, R_OK | W_OK) == 0 && access("/dev/dma_heap", R_OK | X_OK) == 0);
    CHECK(faccessat(AT_FDCWD, HEAP, R_OK, AT_EACCESS) == 0);
    FAILS(stat("/dev/dma_heap/absent", &status), ENOENT);
    /* Other nodes are unchanged. */
    CHECK(stat("/dev/null", &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3));
    FAILS(stat("/dev/absent", &status), ENOENT);
}

/* Returns the number of entries; checks that "system" and "." are among them. */
static int check_list(DIR *directory)
{
    int lines = 0;
    bool has_system = false, has_itself = false;
    CHECK(directory != NULL && dirfd(directory) >= 0);
    for (struct dirent *line; (line = readdir(directory)) != NULL; lines++) {
        has_system |= strcmp(line->d_name, "system") == 0 && line->d_type == DT_CHR;
        has_itself |= strcmp(line->d_name, ".") == 0 && line->d_type == DT_DIR;
    }
    CHECK(has_system && has_itself);
    return lines;
}

static void check_directory(void)
{
    DIR *directory = opendir("/dev/dma_heap");
    int lines = check_list(directory);
    rewinddir(directory);
    CHECK(check_list(directory) == lines);
    rewinddir(directory);
    CHECK(readdir(directory) != NULL);
    long second = telldir(directory);
    CHECK(readdir(directory) != NULL && readdir(directory) != NULL);
    seekdir(directory, second);
    CHECK(strcmp(readdir64(directory)->d_name, "..") == 0);
    CHECK(closedir(directory) == 0);

    int fd = open("/dev/dma_heap", O_RDONLY | O_DIRECTORY);
    directory = fdopendir(fd);
    CHECK(check_list(directory) == lines && closedir(directory) == 0);
    FAILS(fcntl(fd, F_GETFD), EBADF);
    CHECK(opendir(HEAP) == NULL && errno == ENOTDIR);
    CHECK(opendir("/dev/dma_heap/absent") == NULL && errno == ENOENT);
    directory = opendir("/");
    CHECK(directory != NULL && readdir(directory) != NULL && closedir(directory) == 0);
}

static void check_copies_and_children(int heap, char **argv)
{
    int copy = dup(heap), high = fcntl(heap, F_DUPFD_CLOEXEC, 100), placed = dup2(heap, 200);
    CHECK(copy >= 0 && high >= 100 && placed == 200);
    for (const int *each = (const int[]){copy, high, placed, -1}; *each >= 0; each++) {
        int fd = allocate(*each, 4096, O_RDWR);
        CHECK(fd >= 0 && close(fd) == 0);
    }
    CHECK(close(high) == 0 && close(placed) == 0);

    int buffer = allocate(heap, 4096, O_RDWR);
    check_buffer(buffer, 4096, 7);
    pid_t child = fork();
    if (child == 0) {
        check_mark(buffer, 7);
        int fd = allocate(heap, 64 * KIB, O_RDWR);
        CHECK(fd >= 0);
        check_buffer(fd, 64 * KIB, 8);
        int second = open(HEAP, O_RDONLY | O_CLOEXEC);
        CHECK(second >= 0 && (fd = allocate(second, 4096, O_RDWR)) >= 0);
        _exit(0);
    }
    check_child(child);
    CHECK(close(buffer) == 0);
    live_again(argv, copy);
    CHECK(close(copy) == 0);
}

#define THREADS 8

static void *work(void *argument)
{
    int shared = *(int *)argument;
    for (int round = 0; round < 16; round++) {
        int own = open(HEAP, O_RDONLY | O_CLOEXEC);
        CHECK(own >= 0);
        int fds[] = {allocate(shared, 16 * KIB, O_RDWR), allocate(own, 16 * KIB, O_RDWR)};
        for (int i = 0; i < 2; i++) {
            CHECK(fds[i] >= 0);
            check_buffer(fds[i], 16 * KIB, 3);
            CHECK(close(fds[i]) == 0);
        }
        CHECK(close(own) == 0);
    }
    return NULL;
}

static void check_threads(int heap)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, &heap) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static void *be_cancelled_in_open(void *argument)
{
    (void)argument;
    CHECK(pthread_cancel(pthread_self()) == 0);
    open("/dev/null", O_RDONLY);
    return NULL;
}

static void *be_cancelled_after_ioctl(void *heap)
{
    CHECK(pthread_cancel(pthread_self()) == 0);
    int fd = allocate(*(int *)heap, 4096, O_RDWR);
    CHECK(fd >= 0);
    check_buffer(fd, 4096, 1);
    pthread_testcancel();
    return NULL;
}

/* Checks that open(2) is a cancellation point, and that a request is none. */
static void check_cancellation(int heap)
{
    pthread_t threads[2];
    CHECK(pthread_create(&threads[0], NULL, be_cancelled_in_open, NULL) == 0);
    CHECK(pthread_create(&threads[1], NULL, be_cancelled_after_ioctl, &heap) == 0);
    for (int i = 0; i < 2; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0 && result == PTHREAD_CANCELED);
    }
}

static void check_out_of_descriptors(int heap)
{
    struct rlimit limit, small;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    int next = dup(0);
    CHECK(next >= 0 && close(next) == 0);
    small = (struct rlimit){.rlim_cur = (rlim_t)next, .rlim_max = limit.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &small) == 0);
    FAILS(open(HEAP, O_RDONLY), EMFILE);
    CHECK(allocate(heap, 4096, O_RDWR) == -1);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int fd = allocate(heap, 4096, O_RDWR);
    CHECK(fd >= 0 && close(fd) == 0);
}

int main(int argc, char **argv)
{
    if (is_second_life(argc)) {
        struct stat status;
        CHECK(fstat(atoi(argv[1]), &status) == 0 && S_ISCHR(status.st_mode));
        int fd = allocate(atoi(argv[1]), 4096, O_RDWR);
        CHECK(fd >= 0);
        check_buffer(fd, 4096, 1);
        return 0;
    }
    check_status();
    check_directory();
    check_ways_to_open();
    int heap = open(HEAP, O_RDONLY | O_CLOEXEC);
    CHECK(heap >= 0);
    check_allocation(heap);
    check_errors(heap);
    check_copies_and_children(heap, argv);
    check_threads(heap);
    check_cancellation(heap);
    check_out_of_descriptors(heap);
    CHECK(close(heap) == 0);
    FAILS(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, NULL), EBADF);
    return 0;
}
