// SPDX-License-Identifier: Apache-2.0
//
// libblockbridge for C++17 and later: owners over the C interface. Objects close themselves; errors
// are thrown as bb::Error with the code and the text. What blockbridge.h says of threads and memory
// holds here too. Since 0.1.
#ifndef BLOCKBRIDGE_BB_HPP
#define BLOCKBRIDGE_BB_HPP

#include <blockbridge/blockbridge.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace bb {

class Error : public std::runtime_error {
 public:
  Error(int code, const std::string& text) : std::runtime_error(text), code_(code) {}
  bb_code code() const { return static_cast<bb_code>(code_); }
  const char* code_name() const { return bb_code_name(code_); }

 private:
  int code_;
};

inline void check(int code) {
  if (code != BB_OK) throw Error(code, bb_last_error());
}

inline const char* text_or_null(const std::string& text) {
  return text.empty() ? nullptr : text.c_str();
}

// What the objects below share: own one handle, movable. close() tells what went wrong; the
// destructor closes too, but has nobody to tell.
template <typename Handle>
class Owner {
 public:
  Owner() = default;
  Owner(Owner&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;
  Handle* get() const { return handle_; }
  explicit operator bool() const { return handle_ != nullptr; }

 protected:
  Handle* handle_ = nullptr;
};

// Takes over a text of the library.
inline std::string take_text(char* text) {
  std::string out(text);
  bb_string_free(text);
  return out;
}

class Runtime : public Owner<bb_runtime> {
 public:
  explicit Runtime(bool host_driven = false, bb_engine engine = BB_ENGINE_AUTO, bool spin = true) {
    bb_runtime_options options = BB_RUNTIME_OPTIONS_INIT;
    options.host_driven = host_driven ? 1 : 0;
    options.engine = engine;
    options.no_spin = spin ? 0 : 1;
    check(bb_runtime_open(&options, &handle_));
  }
  Runtime(Runtime&&) noexcept = default;
  ~Runtime() { bb_runtime_close(&handle_); }
  void close() { check(bb_runtime_close(&handle_)); }

  bb_engine engine() const {
    bb_engine engine = BB_ENGINE_AUTO;
    check(bb_runtime_engine(handle_, &engine));
    return engine;
  }
  int fd() const {
    int fd = -1;
    check(bb_runtime_fd(handle_, &fd));
    return fd;
  }
  void poll() const { check(bb_runtime_poll(handle_)); }
  std::string metrics() const {  // Prometheus text
    char* text = nullptr;
    check(bb_runtime_get_metrics(handle_, &text));
    return take_text(text);
  }
};

// Reads, writes, flushes: a device of its own or, borrowed, an array's.
class DeviceView {
 public:
  explicit DeviceView(bb_device* device) : device_(device) {}

  bb_device_info info() const {
    bb_device_info info = BB_DEVICE_INFO_INIT;
    check(bb_device_get_info(device_, &info));
    return info;
  }
  std::string paths_json() const {
    char* json = nullptr;
    check(bb_device_get_paths(device_, &json));
    std::string text(json);
    bb_string_free(json);
    return text;
  }
  void reserve(const bb_reservation_command& command) const {
    check(bb_device_reserve(device_, &command));
  }
  std::string reservation_json() const {
    char* json = nullptr;
    check(bb_device_get_reservation(device_, &json));
    std::string text(json);
    bb_string_free(json);
    return text;
  }
  void read(uint64_t offset_bytes, void* into, size_t length_bytes) const {
    check(bb_device_read(device_, offset_bytes, into, length_bytes));
  }
  void write(uint64_t offset_bytes, const void* from, size_t length_bytes) const {
    check(bb_device_write(device_, offset_bytes, from, length_bytes));
  }
  void flush() const { check(bb_device_flush(device_)); }
  void discard(uint64_t offset_bytes, uint64_t length_bytes) const {
    check(bb_device_discard(device_, offset_bytes, length_bytes));
  }
  void write_zeroes(uint64_t offset_bytes, uint64_t length_bytes) const {
    check(bb_device_write_zeroes(device_, offset_bytes, length_bytes));
  }
  // At most `limit`, from the front of the range; see bb_device_get_extents().
  std::vector<bb_extent> extents(uint64_t offset_bytes, uint64_t length_bytes,
                                 size_t limit = 1024) const {
    std::vector<bb_extent> list(limit);
    check(bb_device_get_extents(device_, offset_bytes, length_bytes, list.data(), &limit));
    list.resize(limit);
    return list;
  }
  void submit(bb_io& io) const { bb_device_submit(device_, &io); }
  bb_io_counters counters() const {
    bb_io_counters counters = BB_IO_COUNTERS_INIT;
    check(bb_device_get_counters(device_, &counters));
    return counters;
  }
  std::string stats_json() const {
    char* json = nullptr;
    check(bb_device_get_stats(device_, &json));
    return take_text(json);
  }
  bb_device* handle() const { return device_; }

 private:
  bb_device* device_;
};

class Device : public Owner<bb_device> {
 public:
  Device(const Runtime& runtime, const std::string& uri) {
    check(bb_device_open(runtime.get(), uri.c_str(), &handle_));
  }
  // A device that these functions are; see bb_device_functions.
  Device(const Runtime& runtime, const bb_device_functions& functions) {
    check(bb_device_create(runtime.get(), &functions, &handle_));
  }
  Device(Device&&) noexcept = default;
  ~Device() { bb_device_close(&handle_); }
  void close() { check(bb_device_close(&handle_)); }

  DeviceView io() const { return DeviceView(handle_); }
};

// See bb_array_options.
struct ArrayOptions {
  bool assume_clean = false;
  std::string level = "1";
  uint32_t copies = 0;
  uint64_t chunk_bytes = 0;
  uint64_t region_bytes = 0;
  std::string integrity;  // "crc32c", "none"; empty: what the level has by itself
  uint64_t slow_fail_ms = 0;
};

class Array : public Owner<bb_array> {
 public:
  static Array create(const Runtime& runtime, const std::vector<const Device*>& members,
                      const std::string& name, const std::string& store,
                      const ArrayOptions& given = {}) {
    return Array(runtime, members, name, store, given, bb_array_create);
  }
  static Array assemble(const Runtime& runtime, const std::vector<const Device*>& members,
                        const std::string& name, const std::string& store,
                        const ArrayOptions& given = {}) {
    return Array(runtime, members, name, store, given, bb_array_assemble);
  }
  Array(Array&&) noexcept = default;
  ~Array() { bb_array_close(&handle_); }
  void close() { check(bb_array_close(&handle_)); }

  DeviceView io() const { return DeviceView(bb_array_device(handle_)); }
  std::string info_json() const {
    char* json = nullptr;
    check(bb_array_get_info(handle_, &json));
    return take_text(json);
  }
  void fail_member(const std::string& uuid) { check(bb_array_fail_member(handle_, uuid.c_str())); }
  void readmit_member(const std::string& uuid) {
    check(bb_array_readmit_member(handle_, uuid.c_str()));
  }
  void replace_member(const std::string& uuid, const Device& fresh, bool force = false) {
    check(bb_array_replace_member(handle_, uuid.c_str(), fresh.get(), force ? 1 : 0));
  }
  void remove_member(const std::string& uuid) {
    check(bb_array_remove_member(handle_, uuid.c_str()));
  }
  void set_resync_rate(uint64_t limit_bytes_per_second, uint64_t least_beside_host) {
    check(bb_array_set_resync_rate(handle_, limit_bytes_per_second, least_beside_host));
  }
  std::string scrub_json() {
    char* json = nullptr;
    check(bb_array_scrub(handle_, &json));
    return take_text(json);
  }
  std::string scrub_resume_json() {
    char* json = nullptr;
    check(bb_array_scrub_resume(handle_, &json));
    return take_text(json);
  }
  void scrub_pause() { check(bb_array_scrub_pause(handle_)); }
  void scrub_cancel() { check(bb_array_scrub_cancel(handle_)); }
  std::string scrub_info_json() {
    char* json = nullptr;
    check(bb_array_scrub_info(handle_, &json));
    return take_text(json);
  }
  void wait_clean(uint64_t timeout_ms) { check(bb_array_wait_clean(handle_, timeout_ms)); }

 private:
  using Open = int (*)(bb_runtime*, bb_device* const*, size_t, const bb_array_options*, bb_array**);
  Array(const Runtime& runtime, const std::vector<const Device*>& members, const std::string& name,
        const std::string& store, const ArrayOptions& given, Open open) {
    std::vector<bb_device*> handles;
    for (const Device* member : members) handles.push_back(member->get());
    bb_array_options options = BB_ARRAY_OPTIONS_INIT;
    options.name = name.c_str();
    options.store = store.c_str();
    options.assume_clean = given.assume_clean ? 1 : 0;
    options.level = given.level.c_str();
    options.copies = given.copies;
    options.chunk_bytes = given.chunk_bytes;
    options.region_bytes = given.region_bytes;
    options.integrity = given.integrity.empty() ? nullptr : given.integrity.c_str();
    options.slow_fail_ms = given.slow_fail_ms;
    check(open(runtime.get(), handles.data(), handles.size(), &options, &handle_));
  }
};

// See bb_host_secret.
struct HostSecret {
  std::string host_nqn;
  std::string dhchap_secret_file;
  std::string tls_psk_file;
};

// See bb_export_options.
struct ExportOptions {
  std::string name;
  bb_export_tls tls = BB_EXPORT_TLS_OFF;
  std::vector<std::string> allowed_hosts;
  std::vector<HostSecret> host_secrets;
  std::string ctrl_secret_file;
  bool nbd_read_only = false;
  bool nbd_exclusive = false;
  std::string nbd_tls_certificate_file;
  std::string nbd_tls_key_file;
  std::string nbd_tls_ca_file;
};

class Export : public Owner<bb_export> {
 public:
  Export(DeviceView device, bb_export_kind kind, const std::string& listen,
         const ExportOptions& given = {}) {
    std::vector<const char*> hosts;
    for (const std::string& host : given.allowed_hosts) hosts.push_back(host.c_str());
    std::vector<bb_host_secret> secrets;
    for (const HostSecret& one : given.host_secrets) {
      secrets.push_back({one.host_nqn.c_str(), text_or_null(one.dhchap_secret_file),
                         text_or_null(one.tls_psk_file)});
    }
    bb_export_options options = BB_EXPORT_OPTIONS_INIT;
    options.kind = kind;
    options.listen = listen.c_str();
    options.name = text_or_null(given.name);
    options.tls = given.tls;
    options.allowed_hosts = hosts.data();
    options.allowed_host_count = hosts.size();
    options.host_secrets = secrets.data();
    options.host_secret_count = secrets.size();
    options.ctrl_secret_file = text_or_null(given.ctrl_secret_file);
    options.nbd_read_only = given.nbd_read_only ? 1 : 0;
    options.nbd_exclusive = given.nbd_exclusive ? 1 : 0;
    options.nbd_tls_certificate_file = text_or_null(given.nbd_tls_certificate_file);
    options.nbd_tls_key_file = text_or_null(given.nbd_tls_key_file);
    options.nbd_tls_ca_file = text_or_null(given.nbd_tls_ca_file);
    check(bb_export_start(device.handle(), &options, &handle_));
  }
  Export(Export&&) noexcept = default;
  ~Export() { bb_export_close(&handle_); }
  void close() { check(bb_export_close(&handle_)); }

  std::string uri() const { return bb_export_uri(handle_); }
  bb_io_counters counters() const {
    bb_io_counters counters = BB_IO_COUNTERS_INIT;
    check(bb_export_get_counters(handle_, &counters));
    return counters;
  }
  std::string stats_json() const {
    char* json = nullptr;
    check(bb_export_get_stats(handle_, &json));
    return take_text(json);
  }
};

// See bb_discovery_options.
struct DiscoveryOptions {
  std::string host_nqn;
  std::string tls_psk_file;
};

class Discovery : public Owner<bb_discovery> {
 public:
  Discovery(const Runtime& runtime, const std::string& address, bb_discovery_changed changed,
            void* arg, const DiscoveryOptions& given = {}) {
    bb_discovery_options options = BB_DISCOVERY_OPTIONS_INIT;
    options.address = address.c_str();
    options.host_nqn = text_or_null(given.host_nqn);
    options.tls_psk_file = text_or_null(given.tls_psk_file);
    check(bb_discovery_start(runtime.get(), &options, changed, arg, &handle_));
  }
  Discovery(Discovery&&) noexcept = default;
  ~Discovery() { bb_discovery_close(&handle_); }
  void close() { check(bb_discovery_close(&handle_)); }
};

class DiskNode : public Owner<bb_disknode> {
 public:
  DiskNode(const Runtime& runtime, const std::string& config_path) {
    check(bb_disknode_start(runtime.get(), config_path.c_str(), &handle_));
  }
  DiskNode(DiskNode&&) noexcept = default;
  ~DiskNode() { bb_disknode_close(&handle_); }
  void close() { check(bb_disknode_close(&handle_)); }

  std::string info_json() const {
    char* json = nullptr;
    check(bb_disknode_get_info(handle_, &json));
    return take_text(json);
  }
};

// The NVMe drives of this machine, see bb_local_drive_list().
inline std::string local_drives_json() {
  char* json = nullptr;
  check(bb_local_drive_list(&json));
  std::string text(json);
  bb_string_free(json);
  return text;
}

}  // namespace bb

#endif  // BLOCKBRIDGE_BB_HPP
