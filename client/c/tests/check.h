/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of libanion. Each test is a program that exits with 0 if all checks pass. */
#ifndef CHECK_H
#define CHECK_H

#include <anion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

/* Ends the program unless the condition holds. */
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

/* Ends the program with the error's text unless the call returns `expected` and stores no error. */
#define RETURNS(call, expected, error) check_status(__FILE__, __LINE__, #call, (call), (expected), &(error))

/* Ends the program with the error's text unless the call returns 0. */
#define OK(call, error) RETURNS(call, 0, error)

/* Ends the program unless the call fails with this errno, and stores an error with the same errno
 * and a message that contains `text`. Frees the error and sets it to NULL. */
#define FAILS(call, number, text, error) \
    do { \
        CHECK((call) == -(number)); \
        CHECK((error) != NULL && anion_error_code(error) == -(number)); \
        if (strstr(anion_error_message(error), (text)) == NULL) { \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, anion_error_message(error)); \
            exit(1); \
        } \
        anion_error_free(error); \
        (error) = NULL; \
    } while (0)

static inline void check_status(const char *file, int line, const char *call, int status, int expected,
                                anion_error **error)
{
    if (status != expected) {
        const char *why = *error != NULL ? anion_error_message(*error) : "no error";
        fprintf(stderr, "%s:%d: %s is %d: %s\n", file, line, call, status, why);
        exit(1);
    }
    CHECK(*error == NULL);
}

/* Returns a client of the service that ANION_SOCKET names. */
static inline anion_client *connected(void)
{
    anion_client *client;
    anion_error *error;
    OK(anion_connect(NULL, &client, &error), error);
    return client;
}

/* Allocates a buffer of `bytes` bytes from the heap with this name. */
static inline anion_buffer *allocated(anion_client *client, const char *heap, uint64_t bytes)
{
    const char *heaps[] = {heap, NULL};
    anion_request request;
    anion_buffer *buffer;
    anion_error *error;
    memset(&request, 0, sizeof request);
    request.struct_size = sizeof request;
    request.bytes = bytes;
    request.heaps = heaps;
    OK(anion_allocate(client, &request, &buffer, &error), error);
    return buffer;
}

/* Sums over all uids: held bytes, held buffers, reserved bytes. */
struct held {
    uint64_t bytes, buffers, reserved;
};

static inline struct held held_of(anion_client *client)
{
    struct held held = {0, 0, 0};
    anion_usage *usage;
    anion_error *error;
    OK(anion_get_usage(client, &usage, &error), error);
    CHECK(usage->struct_size == sizeof *usage);
    for (size_t i = 0; i < usage->count; i++) {
        CHECK(usage->rows[i]->struct_size == sizeof *usage->rows[i] && usage->rows[i]->policy != NULL);
        held.bytes += usage->rows[i]->bytes;
        held.buffers += usage->rows[i]->buffers;
        held.reserved += usage->rows[i]->reserved_bytes;
    }
    anion_usage_free(usage);
    return held;
}

/* Waits until the condition holds. Ends the program after at least three minutes. */
#define EVENTUALLY(condition) \
    do { \
        for (int looks = 0; !(condition); looks++) { \
            if (looks >= 180000) { \
                fprintf(stderr, "%s:%d: never: %s\n", __FILE__, __LINE__, #condition); \
                exit(1); \
            } \
            usleep(1000); \
        } \
    } while (0)

/* Makes the harness kill the service and start another one, and waits for that. */
static inline void restart_service(void)
{
    char answer[8];
    CHECK(puts("restart") >= 0 && fflush(stdout) == 0);
    CHECK(fgets(answer, sizeof answer, stdin) != NULL);
}

#endif
