/* SPDX-License-Identifier: Apache-2.0 */
/* Tests that many threads can use one client, also while the service restarts. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 8, ROUNDS = 50 };

static anion_client *client;
static atomic_int rounds;

static void *work(void *data)
{
    unsigned char own = (unsigned char)(uintptr_t)data;
    for (int round = 0; round < ROUNDS; round++) {
        anion_buffer *buffer = allocated(client, "system", 64 << 10);
        anion_mapping *mapping;
        anion_error *error;
        OK(anion_map(buffer, ANION_READ_WRITE, &mapping, &error), error);
        OK(anion_mapping_begin(mapping, ANION_CPU_READ_WRITE, &error), error);
        unsigned char *bytes = anion_mapping_address(mapping);
        for (size_t i = 0; i < anion_mapping_bytes(mapping); i++) {
            CHECK(bytes[i] == 0);
            bytes[i] = own;
        }
        for (size_t i = 0; i < anion_mapping_bytes(mapping); i++) CHECK(bytes[i] == own);
        OK(anion_mapping_end(mapping, ANION_CPU_READ_WRITE, &error), error);
        anion_mapping_free(mapping);
        anion_buffer_free(buffer);
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

int main(void)
{
    anion_settings settings = {.struct_size = sizeof settings, .connections = 4, .patience_ms = 180000};
    anion_error *error;
    pthread_t threads[THREADS];
    OK(anion_connect_with(&settings, &client, &error), error);
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
    EVENTUALLY(atomic_load(&rounds) >= THREADS * ROUNDS / 4);
    restart_service();
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(atomic_load(&rounds) == THREADS * ROUNDS);
    CHECK(anion_client_generation(client) == 2);
    EVENTUALLY(held_of(client).buffers == 0);
    anion_client_free(client);
    return 0;
}
