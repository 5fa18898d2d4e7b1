/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The client library of the Anion allocator service for C++17: objects that release their
 * resources in destructors, and errors as values. All functions are inline and call the functions
 * of anion.h, which documents them. No class throws, except std::bad_alloc. The header compiles
 * without exceptions and without RTTI.
 *
 *     auto client = anion::Client::connect();
 *     if (!client) return fail(client.error().message());
 *     auto frame = client->allocate_one(anion::Request(3110400).heap("camera").label("preview"));
 */
#ifndef ANION_HPP
#define ANION_HPP

#include <anion.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace anion {

/** Access mode of descriptors and mappings. */
enum class Access : uint32_t { read_write = ANION_READ_WRITE, read_only = ANION_READ_ONLY };

/** Kind of a CPU access. */
enum class Cpu : uint32_t {
    read = ANION_CPU_READ,
    write = ANION_CPU_WRITE,
    read_write = ANION_CPU_READ_WRITE,
};

/** Level of memory pressure. */
enum class Pressure : uint32_t {
    none = ANION_PRESSURE_NONE,
    moderate = ANION_PRESSURE_MODERATE,
    critical = ANION_PRESSURE_CRITICAL,
};

namespace detail {

template <auto free>
struct Free {
    template <class T>
    void operator()(T *object) const noexcept {
        free(object);
    }
};

template <class T, auto free>
using Owned = std::unique_ptr<T, Free<free>>;

}  // namespace detail

/** Cause of a failed call. */
class Error {
public:
    explicit Error(anion_error *error) noexcept : error_(error) {}

    /** Returns the negative errno, as anion_error_code(). */
    int code() const noexcept { return anion_error_code(error_.get()); }
    /** Returns the service's refusal, a code such as ANION_NO_MEMORY; 0 if there is none. */
    int refusal() const noexcept { return anion_error_refusal(error_.get()); }
    /** Returns the reason in words: field, value and limit; for an allocation, the answer of every
     *  heap. */
    const char *message() const noexcept { return anion_error_message(error_.get()); }

private:
    detail::Owned<anion_error, anion_error_free> error_;
};

/** A value or an error. Access to the one that it does not contain ends the program (abort). */
template <class T>
class Result {
public:
    Result(T value) : state_(std::move(value)) {}
    Result(Error error) noexcept : state_(std::move(error)) {}

    /** Returns whether it contains a value. */
    explicit operator bool() const noexcept { return std::holds_alternative<T>(state_); }
    T &operator*() & noexcept { return get<T>(); }
    const T &operator*() const & noexcept { return const_cast<Result *>(this)->template get<T>(); }
    T &&operator*() && noexcept { return std::move(get<T>()); }
    T *operator->() noexcept { return &get<T>(); }
    Error &&error() && noexcept { return std::move(get<Error>()); }
    const Error &error() const & noexcept { return const_cast<Result *>(this)->template get<Error>(); }

private:
    template <class U>
    U &get() noexcept {
        U *found = std::get_if<U>(&state_);
        if (found == nullptr) std::abort();
        return *found;
    }

    std::variant<T, Error> state_;
};

/** Success without a value. */
class Done {
public:
    constexpr explicit Done(int) noexcept {}
};

namespace detail {

/** Calls `ask`, which returns a number, and converts its result. */
template <class T, class Ask>
Result<T> number(Ask ask) {
    anion_error *error = nullptr;
    int status = ask(&error);
    if (status < 0) return Error(error);
    return static_cast<T>(status);
}

/** Calls `ask`, which stores an object, and converts its result. */
template <class Wrapper, class Ask>
Result<Wrapper> object(Ask ask) {
    typename Wrapper::C *object = nullptr;
    anion_error *error = nullptr;
    if (ask(&object, &error) < 0) return Error(error);
    return Wrapper(object);
}

}  // namespace detail

/** A CPU access to a mapping. The destructor ends it, unless end() did. */
class CpuAccess {
public:
    CpuAccess(const anion_mapping *mapping, Cpu access) noexcept : mapping_(mapping), access_(access) {}
    CpuAccess(CpuAccess &&other) noexcept
        : mapping_(std::exchange(other.mapping_, nullptr)), access_(other.access_) {}
    CpuAccess &operator=(CpuAccess &&other) noexcept {
        std::swap(mapping_, other.mapping_);
        std::swap(access_, other.access_);
        return *this;
    }
    ~CpuAccess() {
        if (mapping_ != nullptr) anion_mapping_end(mapping_, static_cast<uint32_t>(access_), nullptr);
    }

    /** Ends the access. Call it at most once. */
    Result<Done> end() {
        const anion_mapping *mapping = std::exchange(mapping_, nullptr);
        return detail::number<Done>([&](anion_error **error) {
            return anion_mapping_end(mapping, static_cast<uint32_t>(access_), error);
        });
    }

private:
    const anion_mapping *mapping_;
    Cpu access_;
};

/** A mapping of a buffer. */
class Mapping {
public:
    using C = anion_mapping;
    explicit Mapping(anion_mapping *mapping) noexcept : mapping_(mapping) {}

    /** Maps the first `bytes` bytes of a buffer that came from another process, as
     *  anion_map_fd(). */
    static Result<Mapping> of_fd(int fd, size_t bytes, Access access = Access::read_write) {
        return detail::object<Mapping>([&](auto mapping, auto error) {
            return anion_map_fd(fd, bytes, static_cast<uint32_t>(access), mapping, error);
        });
    }

    void *data() const noexcept { return anion_mapping_address(mapping_.get()); }
    size_t size() const noexcept { return anion_mapping_bytes(mapping_.get()); }

    /** Begins a CPU access. The returned object must not outlive the mapping. */
    Result<CpuAccess> begin(Cpu access) const {
        anion_error *error = nullptr;
        int status = anion_mapping_begin(mapping_.get(), static_cast<uint32_t>(access), &error);
        if (status < 0) return Error(error);
        return CpuAccess(mapping_.get(), access);
    }

private:
    detail::Owned<anion_mapping, anion_mapping_free> mapping_;
};

/** A buffer that this process holds. */
class Buffer {
public:
    using C = anion_buffer;
    explicit Buffer(anion_buffer *buffer) noexcept : buffer_(buffer) {}

    /** Returns the descriptor, which the object still owns. */
    int fd() const noexcept { return anion_buffer_fd(buffer_.get()); }
    uint64_t id() const noexcept { return anion_buffer_id(buffer_.get()); }
    uint64_t bytes() const noexcept { return anion_buffer_bytes(buffer_.get()); }
    std::string_view heap() const noexcept { return anion_buffer_heap(buffer_.get()); }
    uint32_t heap_id() const noexcept { return anion_buffer_heap_id(buffer_.get()); }
    uint32_t backing() const noexcept { return anion_buffer_backing(buffer_.get()); }

    Result<Mapping> map(Access access = Access::read_write) const {
        return detail::object<Mapping>([&](auto mapping, auto error) {
            return anion_map(buffer_.get(), static_cast<uint32_t>(access), mapping, error);
        });
    }

    /** Frees the object and returns its descriptor, which the caller closes. */
    int into_fd() && noexcept { return anion_buffer_into_fd(buffer_.release()); }

private:
    detail::Owned<anion_buffer, anion_buffer_free> buffer_;
};

/** A request for equal buffers of one heap. */
class Request {
public:
    explicit Request(uint64_t bytes) noexcept : bytes_(bytes) {}

    /** Adds a heap by name or alias; the service tries heaps in the order of the calls. */
    Request &&heap(std::string name) && { return heaps_.push_back(std::move(name)), std::move(*this); }
    Request &&heap_mask(uint32_t mask) && noexcept { return mask_ = mask, std::move(*this); }
    Request &&count(uint32_t count) && noexcept { return count_ = count, std::move(*this); }
    /** Sets the flags: a combination of ANION_CACHED, ANION_UNZEROED and ANION_DMA_BUF. */
    Request &&flags(uint32_t flags) && noexcept { return flags_ = flags, std::move(*this); }
    Request &&access(Access access) && noexcept { return access_ = access, std::move(*this); }
    Request &&alignment(uint64_t bytes) && noexcept { return alignment_ = bytes, std::move(*this); }
    Request &&label(std::string label) && { return label_ = std::move(label), std::move(*this); }

private:
    friend class Client;

    /** Calls `use` with the request as an anion_request. */
    template <class Use>
    auto with_c(uint32_t count, Use use) const {
        std::vector<const char *> heaps;
        for (const std::string &heap : heaps_) heaps.push_back(heap.c_str());
        heaps.push_back(nullptr);
        anion_request request{};
        request.struct_size = sizeof request;
        request.bytes = bytes_;
        request.heaps = heaps_.empty() ? nullptr : heaps.data();
        request.heap_mask = mask_;
        request.count = count;
        request.flags = flags_;
        request.access = static_cast<uint32_t>(access_);
        request.alignment = alignment_;
        request.label = label_.c_str();
        return use(&request);
    }

    uint64_t bytes_;
    std::vector<std::string> heaps_;
    uint32_t mask_ = 0;
    uint32_t count_ = 1;
    uint32_t flags_ = 0;
    Access access_ = Access::read_write;
    uint64_t alignment_ = 0;
    std::string label_;
};

/** A list of `Item`s that the library created: `for (const anion_heap &heap : *heaps)`. */
template <class Head, class Item, auto free, auto items>
class List {
public:
    using C = Head;
    explicit List(Head *head) noexcept : head_(head) {}

    class Iterator {
    public:
        explicit Iterator(const Item *const *at) noexcept : at_(at) {}
        const Item &operator*() const noexcept { return **at_; }
        Iterator &operator++() noexcept { return ++at_, *this; }
        bool operator!=(const Iterator &other) const noexcept { return at_ != other.at_; }

    private:
        const Item *const *at_;
    };

    size_t size() const noexcept { return head_->count; }
    const Item &operator[](size_t index) const noexcept { return *(head_.get()->*items)[index]; }
    Iterator begin() const noexcept { return Iterator(head_.get()->*items); }
    Iterator end() const noexcept { return Iterator(head_.get()->*items + head_->count); }
    /** Returns the structure of anion.h. */
    const Head *operator->() const noexcept { return head_.get(); }

private:
    detail::Owned<Head, free> head_;
};

using Heaps = List<anion_heaps, anion_heap, anion_heaps_free, &anion_heaps::heaps>;
using Usage = List<anion_usage, anion_usage_row, anion_usage_free, &anion_usage::rows>;
using Layout = List<anion_layout, anion_plane, anion_layout_free, &anion_layout::planes>;
using Explanation =
    List<anion_explanation, anion_verdict, anion_explanation_free, &anion_explanation::verdicts>;

/** Computes the layout of an image without a service, as anion_layout_image(). */
inline Result<Layout> layout(const char *format, uint32_t width, uint32_t height, uint64_t usage = 0,
                             uint32_t stride_align = 0) {
    return detail::object<Layout>([&](auto layout, auto error) {
        return anion_layout_image(format, width, height, usage, stride_align, layout, error);
    });
}

/** Description of a live buffer. */
class Description {
public:
    using C = anion_description;
    explicit Description(anion_description *description) noexcept : description_(description) {}
    const anion_description *operator->() const noexcept { return description_.get(); }

private:
    detail::Owned<anion_description, anion_description_free> description_;
};

/** Buffers that the service reserves. */
class Reservation {
public:
    using C = anion_reservation;
    explicit Reservation(anion_reservation *reservation) noexcept : reservation_(reservation) {}

    /** Returns how many of them are ready now, as anion_reservation_ready(). */
    Result<int> ready() const {
        return detail::number<int>(
            [&](auto error) { return anion_reservation_ready(reservation_.get(), error); });
    }

private:
    detail::Owned<anion_reservation, anion_reservation_free> reservation_;
};

/** Receives the level of memory pressure. */
class PressureWatch {
public:
    using C = anion_pressure;
    explicit PressureWatch(anion_pressure *pressure) noexcept : pressure_(pressure) {}

    /** Returns a descriptor that is readable while there is a level to dispatch. */
    int fd() const noexcept { return anion_pressure_fd(pressure_.get()); }

    /** Calls `use` with the last level if one arrived since the last call. Returns whether it
     *  called `use`, which may throw. */
    template <class Use>
    Result<bool> dispatch(Use use) const {
        anion_error *error = nullptr;
        uint32_t level = ANION_PRESSURE_NONE;
        int told = anion_pressure_dispatch(pressure_.get(), store, &level, &error);
        if (told < 0) return Error(error);
        // Not in the callback of the C function, which must not throw.
        if (told > 0) use(static_cast<Pressure>(level));
        return told > 0;
    }

private:
    static void store(uint32_t level, void *into) noexcept { *static_cast<uint32_t *>(into) = level; }

    detail::Owned<anion_pressure, anion_pressure_free> pressure_;
};

/** A client of the allocator service. */
class Client {
public:
    using C = anion_client;
    explicit Client(anion_client *client) noexcept : client_(client) {}

    /** Connects to the service. `endpoint` has the forms that anion_connect() accepts. */
    static Result<Client> connect(const char *endpoint = nullptr) {
        anion_settings settings{};
        settings.struct_size = sizeof settings;
        settings.endpoint = endpoint;
        return connect(settings);
    }

    static Result<Client> connect(const anion_settings &settings) {
        return detail::object<Client>([&](auto client, auto error) {
            return anion_connect_with(&settings, client, error);
        });
    }

    std::string_view endpoint() const noexcept { return anion_client_endpoint(client_.get()); }
    uint64_t generation() const noexcept { return anion_client_generation(client_.get()); }

    Result<Heaps> heaps() const {
        return detail::object<Heaps>([&](auto heaps, auto error) {
            return anion_list_heaps(client_.get(), heaps, error);
        });
    }

    Result<Explanation> explain(const Request &request) const {
        return request.with_c(request.count_, [&](const anion_request *asked) {
            return detail::object<Explanation>([&](auto explanation, auto error) {
                return anion_explain(client_.get(), asked, explanation, error);
            });
        });
    }

    /** Allocates all buffers of the request or, on failure, none. */
    Result<std::vector<Buffer>> allocate(const Request &request) const {
        return allocate(request, request.count_ > 0 ? request.count_ : 1);
    }

    /** Allocates one buffer, regardless of the request's count. */
    Result<Buffer> allocate_one(const Request &request) const {
        Result<std::vector<Buffer>> buffers = allocate(request, 1);
        if (!buffers) return std::move(buffers).error();
        return std::move(buffers->front());
    }

    Result<Description> describe(int fd) const {
        return detail::object<Description>([&](auto description, auto error) {
            return anion_describe(client_.get(), fd, description, error);
        });
    }

    Result<Reservation> reserve(const char *heap, uint64_t bytes, uint32_t count) const {
        return detail::object<Reservation>([&](auto reservation, auto error) {
            return anion_reserve(client_.get(), heap, bytes, count, reservation, error);
        });
    }

    Result<Usage> usage() const {
        return detail::object<Usage>([&](auto usage, auto error) {
            return anion_get_usage(client_.get(), usage, error);
        });
    }

    Result<Pressure> pressure() const {
        return detail::number<Pressure>(
            [&](auto error) { return anion_get_pressure(client_.get(), error); });
    }

    Result<PressureWatch> watch_pressure() const {
        return detail::object<PressureWatch>([&](auto pressure, auto error) {
            return anion_watch_pressure(client_.get(), pressure, error);
        });
    }

private:
    Result<std::vector<Buffer>> allocate(const Request &request, uint32_t count) const {
        std::vector<anion_buffer *> made(count);
        anion_error *error = nullptr;
        int status = request.with_c(count, [&](const anion_request *asked) {
            return anion_allocate(client_.get(), asked, made.data(), &error);
        });
        if (status < 0) return Error(error);
        std::vector<Buffer> buffers;
        for (anion_buffer *buffer : made) buffers.emplace_back(buffer);
        return buffers;
    }

    detail::Owned<anion_client, anion_client_free> client_;
};

}  // namespace anion

#endif  // ANION_HPP
