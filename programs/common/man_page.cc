// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"
#include "common/control.h"

namespace bb::program {
namespace {

// Roff: a leading dot is a command, a bare hyphen a typographic one.
std::string roff(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else if (c == '\n')
      out += "\n.br\n";
    else if (c == '.' && (out.empty() || out.back() == '\n'))
      out += "\\&.";
    else
      out += c;
  }
  return out;
}

void describe_options(const CLI::App& app, std::string* out) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty()) continue;  // hidden
    std::string text = option->get_description();
    if (!option->get_default_str().empty() && option->get_items_expected_max() > 0) {
      text += fmt::format(" (default {})", option->get_default_str());
    }
    if (!option->get_envname().empty()) {
      text += fmt::format(" (environment {})", option->get_envname());
    }
    std::string name = option->get_name(option->get_positional(), true);
    if (size_t negated = name.find("{false}"); negated != name.npos) name.erase(negated, 7);
    *out += fmt::format(".TP\n.B {}\n{}\n", roff(name), roff(text));
  }
}

void describe_commands(const CLI::App& app, const std::string& words, std::string* out) {
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    std::string name = words + " " + command->get_name();
    *out += fmt::format(".SS {}\n{}\n", roff(name), roff(command->get_description()));
    describe_options(*command, out);
    describe_commands(*command, name, out);
  }
}

}  // namespace

std::string render_man(const CLI::App& app, std::string_view files_and_more) {
  std::string out =
      fmt::format(".TH {} 1 \"\" \"Blockbridge\" \"Blockbridge commands\"\n", app.get_name());
  out += fmt::format(".SH NAME\n{} \\- {}\n", app.get_name(), roff(app.get_description()));
  bool commands = !app.get_subcommands([](const CLI::App*) { return true; }).empty();
  out += fmt::format(".SH SYNOPSIS\n.B {}\n[options]{}\n", app.get_name(),
                     commands ? " command [arguments]" : "");
  out += ".SH OPTIONS\n";
  describe_options(app, &out);
  if (commands) out += ".SH COMMANDS\n";
  describe_commands(app, app.get_name(), &out);
  out += ".SH EXIT STATUS\n";
  struct Row {
    int status;
    const char* text;
  };
  for (const Row& row : {Row{0, "success, or already so"}, Row{1, "io_error, corrupt, internal"},
                         Row{2, "invalid_argument, wrong usage"}, Row{3, "not_found"},
                         Row{4, "already_exists, busy, bad_state"}, Row{5, "permission_denied"},
                         Row{6, "no_space, unavailable, timed_out, not_supported, fenced"}}) {
    out += fmt::format(".TP\n{}\n{}\n", row.status, row.text);
  }
  out += files_and_more;
  return out;
}

}  // namespace bb::program
