// SPDX-License-Identifier: Apache-2.0
#include "io/ublk/control.h"

#include <fcntl.h>
#include <linux/ublk_cmd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <vector>

namespace bb::io::ublk {
namespace {

static_assert(sizeof(ControlCommand) == sizeof(ublksrv_ctrl_cmd));
static_assert(offsetof(ControlCommand, address) == offsetof(ublksrv_ctrl_cmd, addr));
static_assert(offsetof(ControlCommand, data) == offsetof(ublksrv_ctrl_cmd, data));
static_assert(sizeof(DeviceRecord) == sizeof(ublksrv_ctrl_dev_info));
static_assert(offsetof(DeviceRecord, server_pid) == offsetof(ublksrv_ctrl_dev_info, ublksrv_pid));
static_assert(offsetof(DeviceRecord, flags) == offsetof(ublksrv_ctrl_dev_info, flags));
static_assert(offsetof(DeviceRecord, server_flags) ==
              offsetof(ublksrv_ctrl_dev_info, ublksrv_flags));
static_assert(sizeof(BasicParameters) == sizeof(ublk_param_basic));
static_assert(offsetof(BasicParameters, size_sectors) == offsetof(ublk_param_basic, dev_sectors));
static_assert(sizeof(DiscardParameters) == sizeof(ublk_param_discard));
static_assert(offsetof(Parameters, discard) == offsetof(ublk_params, discard));
static_assert(offsetof(Parameters, discard) + sizeof(DiscardParameters) == kParametersBytes);
static_assert(sizeof(IoCommand) == sizeof(ublksrv_io_cmd));
static_assert(offsetof(IoCommand, address) == offsetof(ublksrv_io_cmd, addr));
static_assert(sizeof(RequestRecord) == sizeof(ublksrv_io_desc));
static_assert(kQueueDepthMax == UBLK_MAX_QUEUE_DEPTH);
static_assert(kUserRecovery == UBLK_F_USER_RECOVERY);
static_assert(kUserRecoveryReissue == UBLK_F_USER_RECOVERY_REISSUE);
static_assert(kRequestFua == UBLK_IO_F_FUA && kRequestNoUnmap == UBLK_IO_F_NOUNMAP);
static_assert(kReadOnly == UBLK_ATTR_READ_ONLY && kVolatileCache == UBLK_ATTR_VOLATILE_CACHE &&
              kForceUnitAccess == UBLK_ATTR_FUA);

constexpr const char* kControlPath = "/dev/ublk-control";
constexpr uint32_t kEntries = 8;

std::string kernel_release() {
  utsname name{};
  return uname(&name) == 0 ? name.release : "unknown";
}

Code code_of_errno(int number) {
  switch (number) {
    case ENODEV:
    case ENOENT:
      return Code::k_not_found;
    case EEXIST:
      return Code::k_already_exists;
    case EPERM:
    case EACCES:
      return Code::k_permission_denied;
    case EBUSY:
      return Code::k_busy;
    case EOPNOTSUPP:
      return Code::k_not_supported;
    case ENOMEM:
      return Code::k_no_space;
    case EINVAL:
      return Code::k_invalid_argument;
    default:
      return Code::k_io_error;
  }
}

Status failure(const char* what, uint32_t device_id, int32_t result) {
  if (result >= 0) return {};
  std::string which = device_id == kAnyDevice ? "" : fmt::format(" {}", device_id);
  std::string hint;
  if (result == -EPERM) hint = ": needs CAP_SYS_ADMIN";
  if (result == -EOPNOTSUPP)
    hint = fmt::format(": needs Linux 6.4 or newer, this is {}", kernel_release());
  return error(code_of_errno(-result), "ublk device{}: {}: {} (errno {}){}", which, what,
               std::strerror(-result), -result, hint);
}

ControlCommand to_device(uint32_t device_id, void* memory = nullptr, size_t length = 0) {
  return {.device_id = device_id,
          .length_bytes = static_cast<uint16_t>(length),
          .address = reinterpret_cast<uint64_t>(memory)};
}

}  // namespace

std::string block_path(uint32_t device_id) { return fmt::format("/dev/ublkb{}", device_id); }
std::string char_path(uint32_t device_id) { return fmt::format("/dev/ublkc{}", device_id); }

struct Control::Run : SideRing::Op, Work {
  Control& control;
  ControlOp op;
  ControlCommand command;
  int32_t result = 0;
  std::coroutine_handle<> waiter;

  Run(Control& c, ControlOp o, ControlCommand what) : control(c), op(o), command(what) {}
  Run(const Run&) = delete;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> caller) {
    waiter = caller;
    Work::run = [](Work* work) { Trampoline::run(static_cast<Run*>(work)->waiter); };
    complete = [](SideRing::Op* done, int32_t outcome) {
      auto* self = static_cast<Run*>(done);
      self->result = outcome;
      self->control.reactor_.post(*self);  // whoever waits may end the ring that calls us
    };
    io_uring_sqe* sqe = control.ring_->prepare(*this);
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = control.fd_;
    sqe->cmd_op = static_cast<uint32_t>(op);
    std::memcpy(SideRing::command_of(sqe), &command, sizeof command);
  }
  int32_t await_resume() const { return result; }
};

Control::Run Control::run(ControlOp op, ControlCommand command) { return {*this, op, command}; }

Result<std::unique_ptr<Control>> Control::open(Reactor& reactor) {
  int fd = ::open(kControlPath, O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    int number = errno;
    if (number == ENOENT || number == ENXIO || number == ENODEV) {
      return error(Code::k_not_supported,
                   "ublk: no {}: modprobe ublk_drv; needs Linux 6.4 or newer with the driver, this "
                   "is {}",
                   kControlPath, kernel_release());
    }
    return error(code_of_errno(number), "ublk: {}: {} (errno {})", kControlPath,
                 std::strerror(number), number);
  }
  auto ring = SideRing::create(reactor, kEntries, false);
  if (!ring.ok()) {
    ::close(fd);
    return ring.status().with_context("ublk");
  }
  return std::unique_ptr<Control>(new Control(reactor, fd, std::move(ring).value()));
}

Control::~Control() { ::close(fd_); }

Task<Result<DeviceRecord>> Control::add(DeviceRecord wanted) {
  int32_t result =
      co_await run(ControlOp::kAddDevice, to_device(wanted.device_id, &wanted, sizeof wanted));
  Status status = failure("add", wanted.device_id, result);
  if (!status.ok()) co_return status;
  co_return wanted;
}

// GET_DEV_INFO2: the name of the character device goes before the answer, so that devices which
// somebody without privileges made can be asked about, too.
Task<Result<DeviceRecord>> Control::info(uint32_t device_id) {
  std::string path = char_path(device_id);
  path.push_back('\0');
  std::vector<std::byte> memory(path.size() + sizeof(DeviceRecord));
  std::memcpy(memory.data(), path.data(), path.size());
  ControlCommand command = to_device(device_id, memory.data(), memory.size());
  command.path_length_bytes = static_cast<uint16_t>(path.size());
  int32_t result = co_await run(ControlOp::kGetDeviceInfo, command);
  Status status = failure("ask", device_id, result);
  if (!status.ok()) co_return status;
  DeviceRecord record;
  std::memcpy(&record, memory.data() + path.size(), sizeof record);
  co_return record;
}

Task<Status> Control::set_parameters(uint32_t device_id, Parameters parameters) {
  ControlCommand command = to_device(device_id, &parameters, sizeof parameters);
  int32_t result = co_await run(ControlOp::kSetParameters, command);
  co_return failure("set parameters", device_id, result);
}

Task<Result<Parameters>> Control::parameters(uint32_t device_id) {
  Parameters parameters;
  ControlCommand command = to_device(device_id, &parameters, sizeof parameters);
  int32_t result = co_await run(ControlOp::kGetParameters, command);
  Status status = failure("get parameters", device_id, result);
  if (!status.ok()) co_return status;
  co_return parameters;
}

Task<Status> Control::start(uint32_t device_id) {
  ControlCommand command = to_device(device_id);
  command.data = static_cast<uint64_t>(::getpid());
  int32_t result = co_await run(ControlOp::kStartDevice, command);
  co_return failure("start", device_id, result);
}

Task<Status> Control::start_recovery(uint32_t device_id) {
  int32_t result = co_await run(ControlOp::kStartRecovery, to_device(device_id));
  co_return failure("start recovery", device_id, result);
}

Task<Status> Control::end_recovery(uint32_t device_id) {
  ControlCommand command = to_device(device_id);
  command.data = static_cast<uint64_t>(::getpid());
  int32_t result = co_await run(ControlOp::kEndRecovery, command);
  co_return failure("end recovery", device_id, result);
}

Task<Status> Control::stop(uint32_t device_id) {
  int32_t result = co_await run(ControlOp::kStopDevice, to_device(device_id));
  co_return failure("stop", device_id, result);
}

Task<Status> Control::remove(uint32_t device_id) {
  int32_t result = co_await run(ControlOp::kDeleteDevice, to_device(device_id));
  co_return failure("delete", device_id, result);
}

}  // namespace bb::io::ublk
