/* SPDX-License-Identifier: Apache-2.0 */
/* Tests that calls continue and memory stays valid after the service was killed and restarted. */
#include "check.h"

static void remember(uint32_t level, void *data)
{
    *(uint32_t *)data = level;
}

static void told(anion_pressure *pressure)
{
    anion_error *error;
    uint32_t level = 99;
    struct pollfd polled = {.fd = anion_pressure_fd(pressure), .events = POLLIN};
    CHECK(poll(&polled, 1, -1) == 1);
    RETURNS(anion_pressure_dispatch(pressure, remember, &level, &error), 1, error);
    CHECK(level <= ANION_PRESSURE_CRITICAL);
}

int main(void)
{
    anion_settings settings = {.struct_size = sizeof settings, .patience_ms = 180000};
    anion_client *client;
    anion_mapping *mapping;
    anion_reservation *reservation;
    anion_pressure *pressure;
    anion_description *description;
    anion_error *error;
    OK(anion_connect_with(&settings, &client, &error), error);
    anion_buffer *kept = allocated(client, "system", MIB);
    OK(anion_map(kept, ANION_READ_WRITE, &mapping, &error), error);
    memcpy(anion_mapping_address(mapping), "before", 6);
    OK(anion_reserve(client, "system", MIB, 1, &reservation, &error), error);
    OK(anion_watch_pressure(client, &pressure, &error), error);
    told(pressure);

    restart_service();
    anion_buffer *fresh = allocated(client, "system", MIB);
    CHECK(anion_client_generation(client) == 2 && anion_buffer_id(fresh) != anion_buffer_id(kept));
    CHECK(memcmp(anion_mapping_address(mapping), "before", 6) == 0);
    /* The client has presented it to the new service. */
    OK(anion_describe(client, anion_buffer_fd(kept), &description, &error), error);
    CHECK(description->id == anion_buffer_id(kept));
    anion_description_free(description);
    OK(anion_describe(client, anion_buffer_fd(fresh), &description, &error), error);
    anion_description_free(description);
    told(pressure);
    CHECK(held_of(client).buffers == 2);
    /* It has reserved again, too. The new buffer was the reserved one. */
    RETURNS(anion_reservation_ready(reservation, &error), 0, error);
    anion_buffer_free(fresh);
    EVENTUALLY(anion_reservation_ready(reservation, NULL) == 1);

    anion_pressure_free(pressure);
    anion_reservation_free(reservation);
    anion_mapping_free(mapping);
    anion_buffer_free(kept);
    EVENTUALLY(held_of(client).buffers == 0);
    anion_client_free(client);
    return 0;
}
