// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "common/output.h"

namespace bb::program {

// What goes to stderr when a program fails:
//   bb: error: disk "db1": no space on fast-a: 3GiB left, 4GiB asked [no_space]
//   hint: free or add space
// With JSON the same fields form one object. Without `hint`, the code's next step is printed.
std::string render_failure(std::string_view program, const Status& status, std::string_view hint,
                           OutputFormat format);

// Prints it and returns the exit status of the code: `return fail("bb-serve", status);`
int fail(std::string_view program, const Status& status, std::string_view hint = "",
         OutputFormat format = OutputFormat::kTable);

}  // namespace bb::program
