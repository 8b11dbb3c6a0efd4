// SPDX-License-Identifier: Apache-2.0
#include "io/prometheus.h"

#include <fmt/format.h>

#include <set>

namespace bb::io {
namespace {

constexpr uint32_t kFirstBits = 13;  // le: 2^13 - 1 ns = 8.191 us
constexpr uint32_t kLastBits = 34;   // to 2^34 - 1 ns = 17.18 s

// "In label values backslash, double quote and line feed are escaped."
void append_escaped(std::string& out, std::string_view text) {
  for (char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '"') {
      out += "\\\"";
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
}

void append_label(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  out += "=\"";
  append_escaped(out, value);
  out += '"';
}

// device="mem:1G",export="…": without braces, since more may follow.
std::string labels_of(const ObjectStats& object) {
  std::string out;
  append_label(out, object.type, object.name);
  for (const auto& [name, value] : object.labels) {
    out += ',';
    append_label(out, name, value);
  }
  return out;
}

// Nanoseconds as seconds without losing any.
std::string seconds(uint64_t ns) {
  return fmt::format("{}.{:09}", ns / 1'000'000'000, ns % 1'000'000'000);
}

void append_histogram(std::string& out, std::string_view family, const std::string& labels,
                      const Histogram& histogram) {
  for (uint32_t bits = kFirstBits; bits <= kLastBits; ++bits) {
    uint64_t end = (uint64_t{1} << bits) - 1;
    out += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", family, labels, seconds(end),
                       histogram.count_to(end));
  }
  uint64_t count = histogram.count();
  out += fmt::format("{}_bucket{{{},le=\"+Inf\"}} {}\n", family, labels, count);
  out += fmt::format("{}_sum{{{}}} {}\n", family, labels, seconds(histogram.sum()));
  out += fmt::format("{}_count{{{}}} {}\n", family, labels, count);
}

using Objects = std::vector<const ObjectStats*>;

void append_head(std::string& out, const std::string& family, std::string_view type,
                 std::string_view help) {
  out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", family, help, family, type);
}

struct Counter {
  const char* name;
  const char* help;
  uint64_t (*of)(const IoStats::Kind& kind);
};
constexpr Counter kCounters[] = {
    {"commands_total", "Commands that succeeded.",
     [](const IoStats::Kind& k) { return k.count(); }},
    {"bytes_total", "Bytes of commands that succeeded.",
     [](const IoStats::Kind& k) { return k.bytes; }},
    {"errors_total", "Commands that failed.", [](const IoStats::Kind& k) { return k.errors; }}};

void append_counters(std::string& out, const std::string& prefix, const Objects& objects) {
  for (const Counter& counter : kCounters) {
    std::string family = prefix + counter.name;
    append_head(out, family, "counter", counter.help);
    for (const ObjectStats* object : objects) {
      std::string labels = labels_of(*object);
      for (IoKind kind : kIoKinds) {
        out += fmt::format("{}{{{},op=\"{}\"}} {}\n", family, labels, io_kind_name(kind),
                           counter.of(object->io.kind(kind)));
      }
    }
  }
}

void append_type(std::string& out, const std::string& prefix, const Objects& objects) {
  append_counters(out, prefix, objects);
  std::string family = prefix + "events_total";
  append_head(out, family, "counter", "Reconnects, digest errors and the like.");
  for (const ObjectStats* object : objects) {
    for (const auto& [event, count] : object->events) {
      out += fmt::format("{}{{{},event=\"{}\"}} {}\n", family, labels_of(*object), event, count);
    }
  }
  family = prefix + "in_flight";
  append_head(out, family, "gauge", "Commands that have begun and not ended.");
  for (const ObjectStats* object : objects) {
    out += fmt::format("{}{{{}}} {}\n", family, labels_of(*object), object->in_flight);
  }
  family = prefix + "latency_seconds";
  append_head(out, family, "histogram", "Time that commands spent in a stage.");
  for (const ObjectStats* object : objects) {
    for (IoKind kind : kIoKinds) {
      for (IoStage stage : kIoStages) {
        const Histogram& histogram = object->io.kind(kind).stage(stage);
        if (histogram.empty()) continue;
        std::string labels = fmt::format("{},op=\"{}\",stage=\"{}\"", labels_of(*object),
                                         io_kind_name(kind), io_stage_name(stage));
        append_histogram(out, family, labels, histogram);
      }
    }
  }
}

}  // namespace

std::string encode_prometheus(const std::vector<ObjectStats>& objects) {
  std::set<std::string> types;  // each family once, with all its rows
  for (const ObjectStats& object : objects) types.insert(object.type);
  std::string out;
  for (const std::string& type : types) {
    Objects of_type;
    for (const ObjectStats& object : objects) {
      if (object.type == type) of_type.push_back(&object);
    }
    append_type(out, "bb_" + type + "_", of_type);
  }
  return out;
}

}  // namespace bb::io
