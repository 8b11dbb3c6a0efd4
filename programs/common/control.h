// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "base/cli11.h"
#include "base/json.h"
#include "common/output.h"

namespace bb::program {

// What `bb` and `healctl` share: asking a daemon over its control socket and showing the answer.
struct ControlOptions {
  std::string socket = "/run/blockbridge/dataplane.sock";  // a path, unix:PATH or host:port
  std::string output = "table";
  std::string field;
  uint32_t timeout_s = 60;
};

enum class ShowAs : uint8_t { kTable, kJson, kYaml };

// The options of every command, on the root of the command line.
void add_control_options(CLI::App& app, ControlOptions* options);

// One call on a connection of its own. UNAVAILABLE: no daemon answers there.
Result<Json> control_call(const ControlOptions& options, std::string method, Json params);

// A column of a table, or a line of a record: its title, the field it shows, and how.
struct Shown {
  enum class Kind : uint8_t { kText, kSize };
  const char* title;
  const char* key;
  Kind kind = Kind::kText;
  uint32_t sort_rank = 0;
};

Cell cell_of(const Json& row, const Shown& shown);
std::string render_table(const Json& rows, const std::vector<Shown>& columns);
std::string render_record(std::string title, const Json& row, const std::vector<Shown>& lines);
std::string render_yaml(const Json& value);
// The values of a field: of the object, or of every object of the list, one a line.
Result<std::string> render_field(const Json& value, const std::string& field);

// Prints `value` as the options want; `table` is how it looks to people. The exit status.
int show(std::string_view program, const ControlOptions& options, const Json& value,
         const std::string& table);
int fail_control(std::string_view program, const ControlOptions& options, const Status& status,
                 std::string_view hint = "");

// The manual page of a program, made of the same table as its --help.
std::string render_man(const CLI::App& app, std::string_view files_and_more);

}  // namespace bb::program
