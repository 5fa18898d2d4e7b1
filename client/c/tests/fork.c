/* SPDX-License-Identifier: Apache-2.0 */
/* Tests that a child of fork connects by itself and does not affect its parent's objects. */
#include "check.h"

#include <sys/wait.h>

static void nothing(uint32_t level, void *data)
{
    (void)level, (void)data;
}

/* Runs the statement `child` in a child process, which must exit with 0. */
#define IN_CHILD(child) \
    do { \
        pid_t pid = fork(); \
        CHECK(pid >= 0); \
        if (pid == 0) { \
            child; \
            _exit(0); \
        } \
        int status; \
        CHECK(waitpid(pid, &status, 0) == pid && status == 0); \
    } while (0)

static anion_client *client;
static anion_buffer *kept;
static anion_mapping *mapping;
static anion_reservation *reservation;
static anion_pressure *pressure;

static void use_all_and_free_all(void)
{
    anion_error *error;
    anion_description *description;
    /* The generation is right before the child's first call, too. */
    CHECK(anion_client_generation(client) == 2);
    anion_buffer *own = allocated(client, "system", MIB);
    CHECK(anion_client_generation(client) == 2);
    OK(anion_describe(client, anion_buffer_fd(own), &description, &error), error);
    CHECK(description->owner_pid == getpid());
    anion_description_free(description);
    OK(anion_describe(client, anion_buffer_fd(kept), &description, &error), error);
    CHECK(description->owner_pid == getppid());
    anion_description_free(description);
    CHECK(((char *)anion_mapping_address(mapping))[0] == 'p');
    ((char *)anion_mapping_address(mapping))[0] = 'c';

    FAILS(anion_reservation_ready(reservation, &error), ECHILD, "reservation", error);
    FAILS(anion_pressure_dispatch(pressure, nothing, NULL, &error), ECHILD, "pressure watch", error);
    anion_reservation_free(reservation);
    anion_pressure_free(pressure);
    anion_buffer_free(kept);
    anion_mapping_free(mapping);
    anion_buffer_free(own);

    /* A grandchild connects by itself, too. */
    IN_CHILD({
        CHECK(anion_client_generation(client) == 3);
        anion_buffer_free(allocated(client, "system", MIB));
        anion_client_free(client);
    });
    anion_buffer_free(allocated(client, "system", MIB));
    anion_client_free(client);
}

int main(void)
{
    anion_error *error;
    client = connected();
    kept = allocated(client, "camera", MIB);
    OK(anion_map(kept, ANION_READ_WRITE, &mapping, &error), error);
    ((char *)anion_mapping_address(mapping))[0] = 'p';
    OK(anion_reserve(client, "system", 4 * MIB, 2, &reservation, &error), error);
    EVENTUALLY(anion_reservation_ready(reservation, NULL) == 2);
    OK(anion_watch_pressure(client, &pressure, &error), error);

    for (int i = 0; i < 3; i++) {
        ((char *)anion_mapping_address(mapping))[0] = 'p';
        IN_CHILD(use_all_and_free_all());
        CHECK(((char *)anion_mapping_address(mapping))[0] == 'c');
        /* The parent's objects are unchanged. */
        RETURNS(anion_reservation_ready(reservation, &error), 2, error);
        CHECK(anion_client_generation(client) == 1);
        EVENTUALLY(held_of(client).buffers == 1);
        CHECK(held_of(client).reserved == 8 * MIB);
        struct pollfd polled = {.fd = anion_pressure_fd(pressure), .events = POLLIN};
        if (i == 0) {
            CHECK(poll(&polled, 1, -1) == 1);
            RETURNS(anion_pressure_dispatch(pressure, nothing, NULL, &error), 1, error);
        }
    }

    /* Parent and child call at once: neither gets the other's answer. */
    pid_t pid = fork();
    CHECK(pid >= 0);
    for (int i = 0; i < 200; i++) {
        anion_buffer *buffer = allocated(client, "system", (pid == 0 ? 8 : 16) << 10);
        CHECK(anion_buffer_bytes(buffer) == (uint64_t)((pid == 0 ? 8 : 16) << 10));
        anion_buffer_free(buffer);
    }
    if (pid == 0) _exit(0);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);

    anion_pressure_free(pressure);
    anion_reservation_free(reservation);
    anion_mapping_free(mapping);
    anion_buffer_free(kept);
    EVENTUALLY(held_of(client).buffers == 0);
    anion_client_free(client);
    return 0;
}
