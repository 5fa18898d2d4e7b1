/* SPDX-License-Identifier: Apache-2.0 */
/* Tests that each failure has its errno and a reason in words, and leaves no buffer. */
#include "check.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/resource.h>

static void nothing(uint32_t level, void *data)
{
    (void)level, (void)data;
}

static void what_is_null_is_named(anion_client *client)
{
    anion_error *error;
    anion_request request = {.struct_size = sizeof request, .bytes = 1};
    anion_buffer *buffer = allocated(client, "system", 1);
    FAILS(anion_connect(NULL, NULL, &error), EINVAL, "client is NULL", error);
    FAILS(anion_connect_with(NULL, NULL, &error), EINVAL, "client is NULL", error);
    FAILS(anion_list_heaps(NULL, &(anion_heaps *){0}, &error), EINVAL, "client is NULL", error);
    FAILS(anion_list_heaps(client, NULL, &error), EINVAL, "heaps is NULL", error);
    FAILS(anion_explain(NULL, &request, &(anion_explanation *){0}, &error), EINVAL, "client is", error);
    FAILS(anion_explain(client, NULL, &(anion_explanation *){0}, &error), EINVAL, "request is", error);
    FAILS(anion_explain(client, &request, NULL, &error), EINVAL, "explanation is NULL", error);
    FAILS(anion_allocate(NULL, &request, &(anion_buffer *){0}, &error), EINVAL, "client is NULL", error);
    FAILS(anion_allocate(client, NULL, &(anion_buffer *){0}, &error), EINVAL, "request is NULL", error);
    FAILS(anion_allocate(client, &request, NULL, &error), EINVAL, "buffers is NULL", error);
    FAILS(anion_describe(NULL, 0, &(anion_description *){0}, &error), EINVAL, "client is NULL", error);
    FAILS(anion_describe(client, 0, NULL, &error), EINVAL, "description is NULL", error);
    FAILS(anion_map(NULL, 0, &(anion_mapping *){0}, &error), EINVAL, "buffer is NULL", error);
    FAILS(anion_map(buffer, 0, NULL, &error), EINVAL, "mapping is NULL", error);
    FAILS(anion_map_fd(0, 1, 0, NULL, &error), EINVAL, "mapping is NULL", error);
    FAILS(anion_mapping_begin(NULL, ANION_CPU_READ, &error), EINVAL, "mapping is NULL", error);
    FAILS(anion_mapping_end(NULL, ANION_CPU_READ, &error), EINVAL, "mapping is NULL", error);
    FAILS(anion_reserve(NULL, "system", 1, 1, &(anion_reservation *){0}, &error), EINVAL, "client", error);
    FAILS(anion_reserve(client, NULL, 1, 1, &(anion_reservation *){0}, &error), EINVAL, "heap is", error);
    FAILS(anion_reserve(client, "system", 1, 1, NULL, &error), EINVAL, "reservation is NULL", error);
    FAILS(anion_reservation_ready(NULL, &error), EINVAL, "reservation is NULL", error);
    FAILS(anion_get_usage(NULL, &(anion_usage *){0}, &error), EINVAL, "client is NULL", error);
    FAILS(anion_get_usage(client, NULL, &error), EINVAL, "usage is NULL", error);
    FAILS(anion_get_pressure(NULL, &error), EINVAL, "client is NULL", error);
    FAILS(anion_watch_pressure(NULL, &(anion_pressure *){0}, &error), EINVAL, "client is NULL", error);
    FAILS(anion_watch_pressure(client, NULL, &error), EINVAL, "pressure is NULL", error);
    FAILS(anion_pressure_dispatch(NULL, nothing, NULL, &error), EINVAL, "pressure is NULL", error);
    FAILS(anion_pressure_dispatch(NULL, NULL, NULL, &error), EINVAL, "callback is NULL", error);
    FAILS(anion_layout_image(NULL, 1, 1, 0, 0, &(anion_layout *){0}, &error), EINVAL, "format is", error);
    FAILS(anion_layout_image("NV12", 1, 1, 0, 0, NULL, &error), EINVAL, "layout is NULL", error);
    CHECK(anion_allocate(client, NULL, NULL, NULL) == -EINVAL);

    CHECK(anion_client_endpoint(NULL) == NULL && anion_client_generation(NULL) == 0);
    CHECK(anion_buffer_fd(NULL) == -EINVAL && anion_buffer_into_fd(NULL) == -EINVAL);
    CHECK(anion_buffer_id(NULL) == 0 && anion_buffer_bytes(NULL) == 0);
    CHECK(anion_buffer_heap(NULL) == NULL && anion_buffer_heap_id(NULL) == 0);
    CHECK(anion_buffer_backing(NULL) == UINT32_MAX);
    CHECK(anion_mapping_address(NULL) == NULL && anion_mapping_bytes(NULL) == 0);
    CHECK(anion_pressure_fd(NULL) == -EINVAL);
    CHECK(anion_error_code(NULL) == 0 && anion_error_refusal(NULL) == 0);
    CHECK(anion_error_message(NULL) == NULL);
    anion_buffer_free(buffer);
}

static void where_no_service_is(void)
{
    anion_client *client;
    anion_error *error;
    FAILS(anion_connect("nowhere", &client, &error), EINVAL, "\"nowhere\"", error);
    FAILS(anion_connect("\xff", &client, &error), EINVAL, "endpoint is not UTF-8", error);
    FAILS(anion_connect("/nowhere/socket", &client, &error), ENOTCONN, "/nowhere/socket: there is no socket", error);
    CHECK(client == NULL);
    FAILS(anion_connect("binder:/nowhere/binder", &client, &error), ENOTCONN, "/nowhere/binder", error);
    anion_settings settings = {.struct_size = 1};
    FAILS(anion_connect_with(&settings, &client, &error), EINVAL, "settings->struct_size is 1", error);
}

/* A request, and the errno, refusal and part of the message with which anion_allocate() must
 * fail. */
struct refusal {
    anion_request request;
    int number;
    int refusal;
    const char *text;
};

static void every_refusal_has_its_errno_and_the_services_words(anion_client *client)
{
    static const char *const nowhere[] = {"nowhere", NULL}, *const both[] = {"camera", "system", NULL},
                             *const bytes[] = {"\xff", NULL};
    const struct refusal refusals[] = {
        {{.bytes = 1, .heaps = nowhere}, ENODEV, ANION_UNKNOWN_HEAP, "nowhere"},
        {{.bytes = 1, .heap_mask = 1}, ENODEV, ANION_UNKNOWN_HEAP, "mask selects none"},
        {{.bytes = 0}, EINVAL, ANION_BAD_REQUEST, "size is 0"},
        {{.bytes = 1, .count = 65}, EINVAL, ANION_BAD_REQUEST, "count is 65"},
        {{.bytes = 1, .count = UINT32_MAX}, EINVAL, ANION_BAD_REQUEST, "count is 2147483647"},
        {{.bytes = 1, .label = "two\nlines"}, EINVAL, ANION_BAD_REQUEST, "name"},
        {{.bytes = 1, .alignment = 3}, EINVAL, ANION_BAD_REQUEST, "alignment"},
        {{.bytes = 1, .flags = ANION_DMA_BUF}, EOPNOTSUPP, ANION_UNSUPPORTED, "dma-buf"},
        {{.bytes = 80 * MIB, .heap_mask = 1u << 20}, ENOMEM, ANION_NO_MEMORY, "83886080"},
        {{.bytes = 2048 * MIB, .heaps = both}, EDQUOT, ANION_QUOTA_EXCEEDED, "camera"},
        {{.bytes = 1, .flags = 8}, EINVAL, 0, "flags is 0x8"},
        {{.bytes = 1, .access = 2}, EINVAL, 0, "access is 2"},
        {{.bytes = 1, .heaps = bytes}, EINVAL, 0, "heaps is not UTF-8"},
        {{.bytes = 1, .label = "\xff"}, EINVAL, 0, "label is not UTF-8"},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *wanted = &refusals[i];
        anion_request request = wanted->request;
        request.struct_size = sizeof request;
        anion_buffer *buffer = NULL;
        anion_error *error;
        int status = anion_allocate(client, &request, &buffer, &error);
        if (status != -wanted->number || anion_error_refusal(error) != wanted->refusal ||
            strstr(anion_error_message(error), wanted->text) == NULL) {
            fprintf(stderr, "refusal %zu: %d: %s\n", i, status, anion_error_message(error));
            exit(1);
        }
        CHECK(anion_error_code(error) == status && buffer == NULL);
        anion_error_free(error);
    }
    /* The message has the answers of both heaps. */
    anion_request request = {.struct_size = sizeof request, .bytes = 2048 * MIB, .heaps = both};
    anion_buffer *buffer;
    anion_error *error;
    CHECK(anion_allocate(client, &request, &buffer, &error) == -EDQUOT);
    CHECK(strstr(anion_error_message(error), "camera") && strstr(anion_error_message(error), "system"));
    anion_error_free(error);

    anion_reservation *reservation;
    FAILS(anion_reserve(client, "nowhere", 1, 1, &reservation, &error), ENODEV, "nowhere", error);
    FAILS(anion_reserve(client, "system", 0, 1, &reservation, &error), EINVAL, "size is 0", error);
    FAILS(anion_reserve(client, "\xff", 1, 1, &reservation, &error), EINVAL, "heap is not UTF-8", error);
    CHECK(reservation == NULL && held_of(client).buffers == 0);
}

static void structures_of_other_versions(anion_client *client)
{
    struct {
        anion_request request;
        uint64_t newer;
    } later = {{.struct_size = sizeof later, .bytes = 1}, 0};
    anion_buffer *buffer;
    anion_error *error;
    OK(anion_allocate(client, &later.request, &buffer, &error), error);
    anion_buffer_free(buffer);
    later.newer = 1;
    FAILS(anion_allocate(client, &later.request, &buffer, &error), EINVAL, "older than the header", error);
    later.request.struct_size = 0;
    FAILS(anion_allocate(client, &later.request, &buffer, &error), EINVAL, "struct_size is 0", error);
    later.request.struct_size = 2 * sizeof(size_t);
    OK(anion_allocate(client, &later.request, &buffer, &error), error);
    anion_buffer_free(buffer);
}

static void descriptors_that_are_no_buffers(anion_client *client)
{
    anion_description *description;
    anion_mapping *mapping;
    anion_error *error;
    FAILS(anion_describe(client, -1, &description, &error), EBADF, "fd is -1", error);
    FAILS(anion_map_fd(-1, 1, ANION_READ_ONLY, &mapping, &error), EBADF, "descriptor -1", error);
    int file = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK(file >= 0);
    FAILS(anion_describe(client, file, &description, &error), ENOENT, "", error);
    CHECK(anion_describe(client, file, &description, &error) < 0);
    CHECK(anion_error_refusal(error) == ANION_NOT_OURS && description == NULL);
    anion_error_free(error);
    close(file);

    anion_buffer *buffer = allocated(client, "system", 4096);
    int fd = anion_buffer_fd(buffer);
    FAILS(anion_map_fd(fd, 0, ANION_READ_ONLY, &mapping, &error), EINVAL, "0 bytes", error);
    FAILS(anion_map_fd(fd, 4097, ANION_READ_ONLY, &mapping, &error), EINVAL, "4097", error);
    FAILS(anion_map_fd(fd, 4096, 7, &mapping, &error), EINVAL, "access is 7", error);
    FAILS(anion_map(buffer, 7, &mapping, &error), EINVAL, "access is 7", error);
    CHECK(mapping == NULL);
    OK(anion_map(buffer, ANION_READ_WRITE, &mapping, &error), error);
    FAILS(anion_mapping_begin(mapping, 0, &error), EINVAL, "access is 0", error);
    FAILS(anion_mapping_end(mapping, 4, &error), EINVAL, "access is 4", error);
    anion_mapping_free(mapping);

    /* The process has no free descriptor. */
    struct rlimit limit, none;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = limit;
    int free_number = dup(fd);
    CHECK(free_number >= 0 && close(free_number) == 0);
    none.rlim_cur = (rlim_t)free_number;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    FAILS(anion_describe(client, fd, &description, &error), EMFILE, "", error);
    FAILS(anion_map_fd(fd, 4096, ANION_READ_ONLY, &mapping, &error), EMFILE, "", error);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    anion_buffer_free(buffer);
}

static void four_pressure_listeners_and_no_more(anion_client *client)
{
    anion_pressure *listeners[4], *fifth;
    anion_error *error;
    for (int i = 0; i < 4; i++) OK(anion_watch_pressure(client, &listeners[i], &error), error);
    FAILS(anion_watch_pressure(client, &fifth, &error), EDQUOT, "4", error);
    FAILS(anion_pressure_dispatch(listeners[0], NULL, NULL, &error), EINVAL, "callback is NULL", error);
    for (int i = 0; i < 4; i++) anion_pressure_free(listeners[i]);
    EVENTUALLY(anion_watch_pressure(client, &fifth, NULL) == 0);
    anion_pressure_free(fifth);
}

static void images_that_have_no_layout_are_refused(void)
{
    anion_error *error;
    anion_layout *layout;
    FAILS(anion_layout_image("NV13", 2, 2, 0, 0, &layout, &error), EINVAL, "format is \"NV13\"", error);
    CHECK(layout == NULL);
    FAILS(anion_layout_image("YV12", 6, 3, 0, 0, &layout, &error), EINVAL, "height is 3, but of YV12", error);
    FAILS(anion_layout_image("R_8", 0, 1, 0, 0, &layout, &error), EINVAL, "width is 0", error);
    FAILS(anion_layout_image("R_8", 1, 1, 0, 3, &layout, &error), EINVAL, "alignment of rows is 3", error);
    anion_layout_free(NULL);
}

int main(void)
{
    where_no_service_is();
    anion_client *client = connected();
    what_is_null_is_named(client);
    EVENTUALLY(held_of(client).buffers == 0);
    every_refusal_has_its_errno_and_the_services_words(client);
    structures_of_other_versions(client);
    descriptors_that_are_no_buffers(client);
    images_that_have_no_layout_are_refused();
    four_pressure_listeners_and_no_more(client);
    EVENTUALLY(held_of(client).buffers == 0);
    anion_client_free(client);
    return 0;
}
