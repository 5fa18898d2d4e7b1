/* SPDX-License-Identifier: Apache-2.0 */
/* Tests every class and member of anion.hpp, and errors as values. */
#include <anion.hpp>

#include "check.h"

namespace {

/* Returns the value of a result. Ends the program if it is an error. */
template <class T>
T need(anion::Result<T> result)
{
    if (!result) {
        fprintf(stderr, "%s\n", result.error().message());
        exit(1);
    }
    return *std::move(result);
}

void errors_are_values(const anion::Client &client)
{
    auto nowhere = anion::Client::connect("/nowhere/socket");
    CHECK(!nowhere && nowhere.error().code() == -ENOTCONN && nowhere.error().refusal() == 0);
    CHECK(strstr(nowhere.error().message(), "/nowhere/socket") != nullptr);
    auto refused = client.allocate_one(anion::Request(1).heap("nowhere"));
    CHECK(!refused && refused.error().refusal() == ANION_UNKNOWN_HEAP && refused.error().code() == -ENODEV);
    anion::Error moved = std::move(refused).error();
    CHECK(moved.code() == -ENODEV);
    CHECK(!client.explain(anion::Request(0)) && !client.describe(-1) && !client.reserve("nowhere", 1, 1));
    CHECK(!client.allocate(anion::Request(1).count(65)) && !anion::Mapping::of_fd(-1, 1));
}

void buffers_free_themselves(const anion::Client &client)
{
    {
        auto frames = need(client.allocate(
            anion::Request(MIB).heap("nowhere").heap("camera").count(3).label("frames").alignment(4096)));
        CHECK(frames.size() == 3 && frames[0].heap() == "camera" && frames[0].heap_id() == 20);
        CHECK(frames[0].bytes() == MIB && frames[0].id() != frames[1].id() && frames[0].fd() >= 0);
        CHECK(frames[0].backing() == ANION_BACKING_MEMFD);
        auto described = need(client.describe(frames[2].fd()));
        CHECK(described->id == frames[2].id() && std::string_view(described->label) == "frames");

        auto mapping = need(frames[0].map());
        CHECK(mapping.size() == MIB);
        {
            auto access = need(mapping.begin(anion::Cpu::write));
            memcpy(mapping.data(), "pixels", 6);
            auto moved = std::move(access);
            CHECK(moved.end());
        }
        auto again = need(anion::Mapping::of_fd(frames[0].fd(), 4096, anion::Access::read_only));
        auto reading = need(again.begin(anion::Cpu::read));
        CHECK(memcmp(again.data(), "pixels", 6) == 0);
        CHECK(!again.begin(anion::Cpu::read_write));
        int fd = std::move(frames[1]).into_fd();
        CHECK(close(fd) == 0);
        EVENTUALLY(need(client.usage())[0].buffers == 2);
        auto usage = need(client.usage());
        CHECK(usage.size() == 1 && usage[0].buffers == 2 && usage->count == 1);
    }
    EVENTUALLY(need(client.usage())[0].buffers == 0);
    auto one = need(client.allocate_one(
        anion::Request(1).heap_mask(1u << 25).count(9).flags(ANION_CACHED).access(anion::Access::read_only)));
    CHECK(one.heap() == "system" && !one.map() && one.map(anion::Access::read_only));
}

void lists_are_ranges(const anion::Client &client)
{
    auto image = need(anion::layout("YV12", 64, 64));
    CHECK(image.size() == 3 && image[2].offset == image[1].offset + image[1].bytes);
    CHECK(image->bytes == image[2].offset + image[2].bytes && !anion::layout("YV12", 63, 64));
    auto heaps = need(client.heaps());
    std::string names;
    for (const anion_heap &heap : heaps) names += std::string(heap.name) + " ";
    CHECK(names == "system camera ");
    auto answer = need(client.explain(anion::Request(128 * MIB).heap("camera").heap("system")));
    CHECK(answer->possible == 1 && answer.size() == 2 && answer[0].verdict == ANION_NO_ROOM);
}

void the_rest(const anion::Client &client)
{
    auto reservation = need(client.reserve("system", MIB, 2));
    EVENTUALLY(need(reservation.ready()) == 2);
    CHECK(need(client.pressure()) <= anion::Pressure::critical);
    auto watch = need(client.watch_pressure());
    pollfd polled{watch.fd(), POLLIN, 0};
    CHECK(poll(&polled, 1, -1) == 1);
    auto told = anion::Pressure::critical;
    CHECK(need(watch.dispatch([&](anion::Pressure level) { told = level; })));
    CHECK(told <= anion::Pressure::critical);
    CHECK(!need(watch.dispatch([](anion::Pressure) { abort(); })));
}

}  // namespace

int main()
{
    auto client = need(anion::Client::connect());
    CHECK(client.endpoint() == std::string(getenv("ANION_SOCKET")) && client.generation() == 1);
    errors_are_values(client);
    buffers_free_themselves(client);
    lists_are_ranges(client);
    the_rest(client);
    anion::Client moved = std::move(client);
    client = std::move(moved);
    EVENTUALLY(need(client.usage())[0].buffers == 0);
    return 0;
}
