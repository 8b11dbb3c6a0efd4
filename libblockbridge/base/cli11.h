// SPDX-License-Identifier: Apache-2.0
// CLI11, whose code runs once, at the start of a program: unoptimized, it takes a third less to
// compile, and that in each file that includes it. For programs only: no library links to it.
#pragma once

#ifdef __clang__
#pragma clang optimize off
#endif
#include <CLI/CLI.hpp>
#ifdef __clang__
#pragma clang optimize on
#endif
