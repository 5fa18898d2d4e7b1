// SPDX-License-Identifier: Apache-2.0
/*
 * A camera fills buffers of Anion, and a graphics device imports each of them, without a copy.
 *
 * The camera is vivid, the kernel's virtual camera, whose frames are known: the program compares
 * every byte. It allocates dma-bufs, queues their descriptors at the camera (V4L2_MEMORY_DMABUF),
 * and passes each frame to the graphics device by PRIME, which returns a descriptor of the same
 * memory. It checks the bytes that the service charges to this user before, during and after the
 * run, also while only a device holds a buffer. docs/devices.md describes how to run it;
 * examples/v4l2_capture.rs is the same program in Rust.
 *
 * cc capture.c $(pkg-config --cflags --libs anion libdrm) -o capture
 */
#define _POSIX_C_SOURCE 200809L

#include <anion.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <xf86drm.h>

/* The camera fills one buffer, the program checks another, and two are in between. */
#define BUFFERS 4
#define BYTES_PER_PIXEL 4
#define FRAMES_PER_SECOND 30
#define BARS 8
/* Every byte of a buffer before the camera fills it. No colour contains this value. */
#define BLANK 0x5a
/* Most seconds that the program waits for a frame, and for the service to detect a release. */
#define PATIENCE 60

/* The driver's names of the controls that the program sets, and of their values. */
static const char *const CONTROLS[][2] = {{"Test Pattern", "100% Colorbar"}, {"OSD Text Mode", "None"}};

/* The bars from left to right: blue, green, red, unused. */
static const unsigned char COLOURS[BARS][BYTES_PER_PIXEL] = {
    {255, 255, 255, 0}, {0, 255, 255, 0}, {255, 255, 0, 0}, {0, 255, 0, 0},
    {255, 0, 255, 0},   {0, 0, 255, 0},   {255, 0, 0, 0},   {0, 0, 0, 0},
};

static const char HELP[] =
    "Usage: capture [OPTION]...\n"
    "Stream frames of the virtual camera vivid through 4 buffers of Anion, and check every byte.\n\n"
    "  --device PATH   the camera [default: /dev/video0]\n"
    "  --heap NAME     the heap of the buffers [default: any heap with dma-bufs]\n"
    "  --frames N      number of frames, at least 1 [default: 300]\n"
    "  --size WxH      size of a frame in pixels; the width is a multiple of 8 [default: 640x480]\n"
    "  --card PATH     import each frame into this graphics device, such as /dev/dri/card0\n"
    "  --socket PATH   connect to the service over this Unix socket [default: as anionctl]\n"
    "  --help          show this text\n\n"
    "While it runs, no other program of this user may allocate or release buffers: the program\n"
    "checks the user's usage.\n";

struct options {
    const char *device, *heap, *card, *socket;
    unsigned long frames, width, height;
};

/* An open camera, with the bytes of a row and of a frame. */
struct camera {
    int fd;
    size_t stride, bytes;
};

static anion_client *client;

/* Prints a message and ends the program. */
__attribute__((format(printf, 1, 2))) static _Noreturn void fail(const char *format, ...)
{
    va_list arguments;
    fputs("capture: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(EXIT_FAILURE);
}

/* Ends the program with the error's message if `call` fails. Its last argument must be `&error`. */
#define EXPECT(call, what) \
    do { \
        if ((call) < 0) fail("%s: %s", what, anion_error_message(error)); \
    } while (0)

/* Calls ioctl(2), and repeats the call if a signal interrupts it. */
static int request(int fd, unsigned long number, void *argument)
{
    int result;
    do result = ioctl(fd, number, argument);
    while (result < 0 && errno == EINTR);
    return result;
}

/* Does the same, and ends the program if the call fails. */
static void demand(int fd, unsigned long number, void *argument, const char *what)
{
    if (request(fd, number, argument) < 0) fail("%s: %s", what, strerror(errno));
}

/* Returns the number of an option, at least 1. Ends the program for any other text. */
static unsigned long number_of(const char *text, const char *name)
{
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (errno || *end || !number || text[0] == '-')
        fail("--%s is %s; it must be a number of at least 1", name, text);
    return number;
}

static struct options read_options(int count, char **words)
{
    static const struct option known[] = {
        {"device", 1, NULL, 'd'}, {"heap", 1, NULL, 'h'},   {"frames", 1, NULL, 'f'}, {"size", 1, NULL, 's'},
        {"card", 1, NULL, 'c'},   {"socket", 1, NULL, 'o'}, {"help", 0, NULL, 'H'},   {NULL, 0, NULL, 0},
    };
    struct options options = {.device = "/dev/video0", .frames = 300, .width = 640, .height = 480};
    char *by;
    opterr = 0;
    for (int option; (option = getopt_long(count, words, "", known, NULL)) != -1;) switch (option) {
        case 'd': options.device = optarg; break;
        case 'h': options.heap = optarg; break;
        case 'c': options.card = optarg; break;
        case 'o': options.socket = optarg; break;
        case 'f': options.frames = number_of(optarg, "frames"); break;
        case 's':
            by = strchr(optarg, 'x');
            if (!by) fail("--size is %s; it must be WIDTHxHEIGHT, such as 640x480", optarg);
            *by = 0;
            options.width = number_of(optarg, "size");
            options.height = number_of(by + 1, "size");
            break;
        case 'H': fputs(HELP, stdout); exit(EXIT_SUCCESS);
        default: fail("%s is no option, or lacks its value; see --help", words[optind - 1]);
    }
    if (optind < count) fail("%s is no option; see --help", words[optind]);
    if (options.width % BARS)
        fail("--size has a width of %lu pixels; the %d bars need a multiple of %d", options.width, BARS,
             BARS);
    return options;
}

/* Returns the bytes that the service charges to this user. */
static uint64_t charged(void)
{
    anion_usage *usage;
    anion_error *error;
    uint64_t bytes = 0;
    EXPECT(anion_get_usage(client, &usage, &error), "cannot query the usage");
    for (size_t i = 0; i < usage->count; i++)
        if (usage->rows[i]->uid == geteuid()) bytes = usage->rows[i]->bytes;
    anion_usage_free(usage);
    return bytes;
}

/* Waits until the service charges `bytes` bytes to this user. Ends the program if it charges fewer
 * bytes at any moment, or more after PATIENCE seconds. */
static void settle(const char *when, uint64_t bytes)
{
    time_t deadline = time(NULL) + PATIENCE;
    for (uint64_t now; (now = charged()) != bytes;) {
        if (now < bytes) fail("%s: %" PRIu64 " bytes are charged instead of %" PRIu64, when, now, bytes);
        if (time(NULL) > deadline)
            fail("%s: %" PRIu64 " bytes are still charged after %d s, not %" PRIu64, when, now, PATIENCE,
                 bytes);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

/* Does the same, and prints the usage. */
static void await_usage(const char *when, uint64_t bytes)
{
    settle(when, bytes);
    printf("usage %s: %" PRIu64 " bytes\n", when, bytes);
}

/* Allocates `count` dma-bufs of `bytes` bytes, which devices can import. */
static void allocate(const struct options *options, uint64_t bytes, uint32_t count, anion_buffer **buffers)
{
    const char *heaps[] = {options->heap, NULL};
    anion_request wanted = {
        .struct_size = sizeof wanted,
        .bytes = bytes,
        .heaps = options->heap ? heaps : NULL,
        .count = count,
        .flags = ANION_DMA_BUF,
        .label = "capture",
    };
    anion_error *error;
    if (anion_allocate(client, &wanted, buffers, &error) < 0)
        fail("no heap returned dma-bufs, which the camera requires: %s",
             anion_error_message(error));
}

/* Does the same after the service has detected the release of two other buffers: it has then
 * checked all buffers of this user. */
static void await_usage_after_looks(const char *when, const struct options *options, uint64_t bytes,
                                    uint64_t each)
{
    for (int look = 0; look < 2; look++) {
        anion_buffer *probe;
        allocate(options, each, 1, &probe);
        anion_buffer_free(probe);
        settle(when, bytes);
    }
    await_usage(when, bytes);
}

/* Returns how many buffers the heaps have handed out from pooled memory. */
static uint64_t recycled(void)
{
    anion_heaps *heaps;
    anion_error *error;
    uint64_t count = 0;
    EXPECT(anion_list_heaps(client, &heaps, &error), "cannot query the heaps");
    for (size_t i = 0; i < heaps->count; i++)
        if (heaps->heaps[i]->stats) count += heaps->heaps[i]->stats->recycled;
    anion_heaps_free(heaps);
    return count;
}

/* Sets the control `name` to the menu item `value`. Ends the program if the camera has none. */
static void set_control(int fd, const char *name, const char *value)
{
    struct v4l2_queryctrl query = {.id = V4L2_CTRL_FLAG_NEXT_CTRL};
    for (; request(fd, VIDIOC_QUERYCTRL, &query) == 0; query.id |= V4L2_CTRL_FLAG_NEXT_CTRL) {
        if (strcmp((const char *)query.name, name)) continue;
        for (long i = query.minimum; i <= query.maximum; i++) {
            struct v4l2_querymenu item = {.id = query.id, .index = i};
            if (request(fd, VIDIOC_QUERYMENU, &item) == 0 && !strcmp((const char *)item.name, value)) {
                struct v4l2_control control = {.id = query.id, .value = i};
                demand(fd, VIDIOC_S_CTRL, &control, "cannot choose the test pattern");
                return;
            }
        }
    }
    fail("the camera has no value '%s' of a control '%s': frames cannot be checked", value, name);
}

/* Opens the camera, and sets the test pattern, the format, the rate and the number of buffers. */
static struct camera open_camera(const struct options *options)
{
    struct camera camera = {.fd = open(options->device, O_RDWR | O_CLOEXEC | O_NONBLOCK)};
    if (camera.fd < 0) fail("cannot open %s: %s", options->device, strerror(errno));
    struct v4l2_capability capability = {0};
    if (request(camera.fd, VIDIOC_QUERYCAP, &capability) < 0)
        fail("%s is no V4L2 device: %s", options->device, strerror(errno));
    if (strcmp((const char *)capability.driver, "vivid"))
        fail("%s is of the driver %s; only frames of vivid can be checked (modprobe vivid)", options->device,
             capability.driver);
    if (!(capability.device_caps & V4L2_CAP_VIDEO_CAPTURE) || !(capability.device_caps & V4L2_CAP_STREAMING))
        fail("%s provides no stream of frames: --device must name a node of vivid that captures video",
             options->device);
    for (size_t i = 0; i < sizeof CONTROLS / sizeof *CONTROLS; i++)
        set_control(camera.fd, CONTROLS[i][0], CONTROLS[i][1]);
    struct v4l2_format format = {.type = V4L2_BUF_TYPE_VIDEO_CAPTURE};
    struct v4l2_pix_format *pixels = &format.fmt.pix;
    pixels->width = options->width;
    pixels->height = options->height;
    pixels->pixelformat = V4L2_PIX_FMT_XBGR32;
    demand(camera.fd, VIDIOC_S_FMT, &format, "cannot set the format");
    if (pixels->pixelformat != V4L2_PIX_FMT_XBGR32) fail("the camera has no pixels of the format XR24");
    if (pixels->width != options->width || pixels->height != options->height)
        fail("--size is %lux%lu, but the camera offers %ux%u", options->width, options->height, pixels->width,
             pixels->height);
    struct v4l2_streamparm rate = {.type = format.type, .parm.capture.timeperframe = {1, FRAMES_PER_SECOND}};
    demand(camera.fd, VIDIOC_S_PARM, &rate, "cannot set the rate of frames");
    camera.stride = pixels->bytesperline;
    camera.bytes = pixels->sizeimage;
    struct v4l2_requestbuffers wanted = {.count = BUFFERS, .type = format.type, .memory = V4L2_MEMORY_DMABUF};
    demand(camera.fd, VIDIOC_REQBUFS, &wanted, "the camera does not support dma-bufs");
    if (wanted.count != BUFFERS) fail("the camera requires %u buffers instead of %d", wanted.count, BUFFERS);
    printf("camera %s: %lux%lu pixels, %zu bytes a frame\n", options->device, options->width, options->height,
           camera.bytes);
    return camera;
}

/* Queues a buffer for the camera to fill. */
static void queue(const struct camera *camera, uint32_t index, int fd)
{
    struct v4l2_buffer buffer = {
        .index = index,
        .type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
        .memory = V4L2_MEMORY_DMABUF,
        .m.fd = fd,
    };
    demand(camera->fd, VIDIOC_QBUF, &buffer, "the camera refuses a buffer");
}

/* Waits for a filled buffer and returns it. */
static struct v4l2_buffer dequeue(const struct camera *camera)
{
    struct v4l2_buffer buffer = {.type = V4L2_BUF_TYPE_VIDEO_CAPTURE, .memory = V4L2_MEMORY_DMABUF};
    struct pollfd polled = {.fd = camera->fd, .events = POLLIN};
    while (request(camera->fd, VIDIOC_DQBUF, &buffer) < 0) {
        if (errno != EAGAIN) fail("no frame: %s", strerror(errno));
        int ready = poll(&polled, 1, PATIENCE * 1000);
        if (ready == 0) fail("the camera delivered no frame within %d s", PATIENCE);
        if (ready < 0 && errno != EINTR) fail("poll: %s", strerror(errno));
    }
    if (buffer.flags & V4L2_BUF_FLAG_ERROR)
        fail("frame %u is marked as damaged by the camera", buffer.sequence);
    return buffer;
}

/* Compares every byte of a frame with the pattern. */
static void verify(const struct camera *camera, const struct options *options, const unsigned char *frame,
                   uint32_t sequence)
{
    size_t row_bytes = options->width * BYTES_PER_PIXEL, bar = options->width / BARS;
    unsigned char *row = malloc(row_bytes);
    if (!row) fail("out of memory");
    for (size_t x = 0; x < options->width; x++)
        memcpy(row + x * BYTES_PER_PIXEL, COLOURS[x / bar], BYTES_PER_PIXEL);
    for (size_t y = 0; y < options->height; y++) {
        const unsigned char *found = frame + y * camera->stride;
        if (!memcmp(found, row, row_bytes)) continue;
        size_t i = 0;
        while (i + 1 < row_bytes && found[i] == row[i]) i++;
        fail("frame %u, row %zu, byte %zu is %u, expected %u", sequence, y, i, found[i], row[i]);
    }
    free(row);
}

/* Maps a buffer by its descriptor, as a program that received it does, and verifies the frame. */
static void verify_behind(int fd, const struct camera *camera, const struct options *options,
                          uint32_t sequence)
{
    struct anion_mapping *mapping;
    anion_error *error;
    EXPECT(anion_map_fd(fd, camera->bytes, ANION_READ_ONLY, &mapping, &error), "cannot map a frame");
    EXPECT(anion_mapping_begin(mapping, ANION_CPU_READ, &error), "cannot read a frame");
    verify(camera, options, anion_mapping_address(mapping), sequence);
    EXPECT(anion_mapping_end(mapping, ANION_CPU_READ, &error), "cannot read a frame");
    anion_mapping_free(mapping);
}

/* Imports a buffer into the card, and returns the card's handle of it. */
static uint32_t import(int card, int fd)
{
    uint32_t handle;
    if (drmPrimeFDToHandle(card, fd, &handle)) fail("the card refuses a buffer: %s", strerror(errno));
    return handle;
}

/* Closes a handle of the card. */
static void release(int card, uint32_t handle)
{
    if (drmCloseBufferHandle(card, handle)) fail("the card does not close a buffer: %s", strerror(errno));
}

/* Imports a frame into the card, exports it again, and verifies the exported descriptor: it must be
 * the same buffer, with the frame. */
static void show(int card, const anion_buffer *buffer, const struct camera *camera,
                 const struct options *options, uint32_t sequence)
{
    uint32_t handle = import(card, anion_buffer_fd(buffer));
    int fd;
    anion_description *description;
    anion_error *error;
    if (drmPrimeHandleToFD(card, handle, DRM_CLOEXEC, &fd))
        fail("the card does not export a buffer: %s", strerror(errno));
    EXPECT(anion_describe(client, fd, &description, &error), "the card exported no buffer of Anion");
    if (description->id != anion_buffer_id(buffer))
        fail("the card exported another buffer than it imported");
    anion_description_free(description);
    verify_behind(fd, camera, options, sequence);
    close(fd);
    release(card, handle);
}

/* Sets every byte of a buffer to BLANK, so that verify() detects a frame that was not written. */
static void blank(const anion_mapping *mapping)
{
    anion_error *error;
    EXPECT(anion_mapping_begin(mapping, ANION_CPU_WRITE, &error), "cannot write to a buffer");
    memset(anion_mapping_address(mapping), BLANK, anion_mapping_bytes(mapping));
    EXPECT(anion_mapping_end(mapping, ANION_CPU_WRITE, &error), "cannot write to a buffer");
}

/* Streams frames through the buffers. When it returns, all buffers are queued at the camera. */
static void stream(const struct camera *camera, int card, const struct options *options,
                   anion_buffer **buffers, anion_mapping **mappings)
{
    int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    uint32_t first = 0, last = 0;
    for (uint32_t i = 0; i < BUFFERS; i++) {
        blank(mappings[i]);
        queue(camera, i, anion_buffer_fd(buffers[i]));
    }
    demand(camera->fd, VIDIOC_STREAMON, &type, "the camera does not start");
    for (unsigned long frame = 1; frame <= options->frames; frame++) {
        struct v4l2_buffer filled = dequeue(camera);
        if (frame == 1) first = filled.sequence;
        /* vivid derives the number from its clock: on a busy machine, two frames may have the
         * same. */
        else if (filled.sequence < last) fail("frame %u came after frame %u", filled.sequence, last);
        last = filled.sequence;
        unsigned long passed = last - first + 1ul;
        if (filled.index >= BUFFERS || filled.bytesused != camera->bytes)
            fail("frame %u: %u bytes in buffer %u, expected %zu", last, filled.bytesused, filled.index,
                 camera->bytes);
        if (card >= 0) show(card, buffers[filled.index], camera, options, last);
        else verify_behind(anion_buffer_fd(buffers[filled.index]), camera, options, last);
        blank(mappings[filled.index]);
        queue(camera, filled.index, anion_buffer_fd(buffers[filled.index]));
        if (frame % 100 == 0 || frame == options->frames) {
            printf("frame %lu/%lu, every byte as expected, %lu skipped by the camera\n", frame,
                   options->frames, passed > frame ? passed - frame : 0);
            fflush(stdout);
        }
    }
}

int main(int count, char **words)
{
    struct options options = read_options(count, words);
    anion_buffer *buffers[BUFFERS];
    anion_mapping *mappings[BUFFERS];
    anion_error *error;
    int card = -1, type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    uint32_t kept = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    EXPECT(anion_connect(options.socket, &client, &error), "no service");
    if (options.card && (card = open(options.card, O_RDWR | O_CLOEXEC)) < 0)
        fail("cannot open %s: %s", options.card, strerror(errno));
    struct camera camera = open_camera(&options);
    uint64_t before = charged(), recycled_before = recycled();

    allocate(&options, camera.bytes, BUFFERS, buffers);
    uint64_t each = anion_buffer_bytes(buffers[0]), all = BUFFERS * each;
    printf("%d buffers of %" PRIu64 " bytes from heap %s, %" PRIu64 " of them recycled\n", BUFFERS, each,
           anion_buffer_heap(buffers[0]), recycled() - recycled_before);
    await_usage("with the buffers", before + all);
    for (int i = 0; i < BUFFERS; i++)
        EXPECT(anion_map(buffers[i], ANION_READ_WRITE, &mappings[i], &error), "cannot map a buffer");
    stream(&camera, card, &options, buffers, mappings);

    /* The card holds the first buffer until the end. */
    if (card >= 0) kept = import(card, anion_buffer_fd(buffers[0]));
    for (int i = 0; i < BUFFERS; i++) {
        anion_mapping_free(mappings[i]);
        anion_buffer_free(buffers[i]);
    }
    await_usage_after_looks("while devices alone hold the buffers", &options, before + all, each);
    demand(camera.fd, VIDIOC_STREAMOFF, &type, "the camera does not stop");
    struct v4l2_requestbuffers none = {.type = type, .memory = V4L2_MEMORY_DMABUF};
    demand(camera.fd, VIDIOC_REQBUFS, &none, "the camera does not release its buffers");
    if (card >= 0) {
        await_usage_after_looks("while the card alone holds one", &options, before + each, each);
        release(card, kept);
    }
    await_usage("after the devices released them", before);
    close(camera.fd);
    anion_client_free(client);
    return EXIT_SUCCESS;
}
