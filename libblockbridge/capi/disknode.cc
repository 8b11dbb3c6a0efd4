// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <sstream>

#include "backplane/disk_node.h"
#include "capi/handle.h"

using bb::Code;
using bb::Result;
using bb::Status;
using bb::backplane::DiskNode;
using bb::io::Task;
namespace capi = bb::capi;

struct bb_disknode {
  bb_runtime* runtime = nullptr;
  std::unique_ptr<DiskNode> node;
};

namespace {

Result<std::string> read_config(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return bb::error(errno == ENOENT ? Code::k_not_found : Code::k_permission_denied,
                     "configuration {}: {}", path, std::strerror(errno));
  }
  std::string text(bb::backplane::kConfigTextMaxBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  return text;  // one byte over the limit stays over it: the parser says so
}

Task<Status> start(bb_runtime* runtime, const bb::backplane::DiskNodeConfig* config,
                   bb_disknode* into) {
  auto node = co_await DiskNode::start(runtime->runtime->context(), *config);
  if (!node.ok()) co_return node.status();
  into->node = std::move(node).value();
  co_return Status();
}

Task<Status> stop(bb_disknode* disknode) {
  co_await disknode->node->stop();
  disknode->node.reset();
  co_return Status();
}

}  // namespace

int bb_disknode_start(bb_runtime* runtime, const char* config_path, bb_disknode** out) {
  if (out == nullptr) return capi::invalid("bb_disknode_start: out is NULL");
  *out = nullptr;
  if (runtime == nullptr || config_path == nullptr) {
    return capi::invalid("bb_disknode_start: an argument is NULL");
  }
  Result<std::string> text = read_config(config_path);
  if (!text.ok()) return capi::code_of(text.status());
  auto config = bb::backplane::parse_disknode_config(*text, config_path);
  if (!config.ok()) return capi::code_of(config.status());
  auto handle = std::make_unique<bb_disknode>();
  Status status = capi::call(runtime, [&] { return start(runtime, &*config, handle.get()); });
  if (!status.ok()) return capi::code_of(status);
  handle->runtime = runtime;
  runtime->children.fetch_add(1);
  *out = handle.release();
  return BB_OK;
}

int bb_disknode_get_info(bb_disknode* disknode, char** json) {
  if (disknode == nullptr || json == nullptr) {
    return capi::invalid("bb_disknode_get_info: an argument is NULL");
  }
  std::string text;
  capi::on_loop(disknode->runtime, [&] {
    text = bb::dump_json(bb::backplane::encode_node_report(disknode->node->report()));
  });
  *json = capi::copy_text(text);
  return BB_OK;
}

int bb_disknode_close(bb_disknode** disknode) {
  if (disknode == nullptr || *disknode == nullptr) return BB_OK;
  bb_disknode* handle = *disknode;
  Status blocked = capi::may_block(handle->runtime);
  if (!blocked.ok()) return capi::code_of(blocked);
  Status status = capi::call(handle->runtime, [handle] { return stop(handle); });
  handle->runtime->children.fetch_sub(1);
  delete handle;
  *disknode = nullptr;
  return capi::code_of(status);
}
