// SPDX-License-Identifier: Apache-2.0
#include "common/failure.h"

#include <nlohmann/json.hpp>

namespace bb::program {

std::string render_failure(std::string_view program, const Status& status, std::string_view hint,
                           OutputFormat format) {
  if (hint.empty()) hint = code_action(status.code());
  if (format == OutputFormat::kJson) {
    nlohmann::ordered_json object;
    object["program"] = program;
    object["code"] = code_name(status.code());
    object["detail"] = status.text();
    object["hint"] = hint;
    return object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  return fmt::format("{}: error: {}\nhint: {}\n", program, status.to_string(), hint);
}

int fail(std::string_view program, const Status& status, std::string_view hint,
         OutputFormat format) {
  std::fflush(stdout);
  std::string text = render_failure(program, status, hint, format);
  std::fwrite(text.data(), 1, text.size(), stderr);
  return code_exit_status(status.code());
}

}  // namespace bb::program
