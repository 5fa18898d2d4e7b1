/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the test programs in this folder. They do not use Anion's interfaces: each is written
 * for a machine that has the device nodes, and exits with 0 if all checks pass. */
#ifndef NODES_H
#define NODES_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

/* Ends the program unless the condition holds. */
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not so: %s (errno is %s)\n", __FILE__, __LINE__, #condition, strerror(errno)); \
            exit(1); \
        } \
    } while (0)

/* Ends the program unless the call fails with this errno. */
#define FAILS(call, number) \
    do { \
        errno = 0; \
        CHECK((call) == -1); \
        CHECK(errno == (number)); \
    } while (0)

/* Ends the program unless the child process exits with 0. */
static inline void check_child(pid_t child)
{
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Returns an address that is not mapped. The compiler does not know its value. */
static inline void *nowhere(void)
{
    static volatile uintptr_t place = 1;
    return (void *)place;
}

/* Checks that a buffer has `bytes` bytes, is zero and can be written; sets its first byte to
 * `mark`. */
static inline void check_buffer(int fd, uint64_t bytes, unsigned char mark)
{
    CHECK(lseek(fd, 0, SEEK_END) == (off_t)bytes);
    unsigned char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(memory != MAP_FAILED);
    for (uint64_t i = 0; i < bytes; i += 512)
        CHECK(memory[i] == 0);
    memory[0] = mark;
    CHECK(munmap(memory, bytes) == 0);
}

/* Checks that the first byte of a buffer is `mark`. */
static inline void check_mark(int fd, unsigned char mark)
{
    unsigned char *memory = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(memory != MAP_FAILED);
    CHECK(memory[0] == mark);
    CHECK(munmap(memory, 4096) == 0);
}

/* Returns whether live_again() executed this program: its argument is an inherited descriptor. */
static inline bool is_second_life(int argc)
{
    return argc == 2;
}

/* Executes this program in a child, with a descriptor's number as its argument. The child must exit
 * with 0. */
static inline void live_again(char **argv, int fd)
{
    char number[16];
    pid_t child = fork();
    if (child == 0) {
        snprintf(number, sizeof number, "%d", fd);
        execl("/proc/self/exe", argv[0], number, (char *)NULL);
        _exit(127);
    }
    check_child(child);
}

#endif
