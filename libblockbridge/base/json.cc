// SPDX-License-Identifier: Apache-2.0
// pure: values only
#include "base/json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace bb {
namespace {

// nlohmann parses without recursion but prints and destroys deep values with it.
Status check_depth(std::string_view text, uint32_t depth_max) {
  uint32_t depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '[' || c == '{') {
      if (++depth > depth_max) {
        return error(Code::k_invalid_argument, "JSON nested deeper than {} at byte {}", depth_max,
                     i);
      }
    }
    if ((c == ']' || c == '}') && depth > 0) --depth;
  }
  return {};
}

// Remembers where the text stops being JSON; builds nothing.
class PlaceOfError final : public nlohmann::json_sax<Json> {
 public:
  size_t at = 0;
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    at = position;
    return false;
  }
};

}  // namespace

Result<Json> parse_json(std::string_view text, uint32_t depth_max) {
  BB_TRY(check_depth(text, depth_max));
  Json value = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!value.is_discarded()) return value;
  PlaceOfError place;
  (void)Json::sax_parse(text.begin(), text.end(), &place);
  return error(Code::k_invalid_argument, "not JSON: error at byte {} of {}", place.at, text.size());
}

std::string dump_json(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<JsonFields> JsonFields::of(const Json& value, std::string_view what) {
  if (!value.is_object()) {
    return error(Code::k_invalid_argument, "{}: expected an object, got {}", what,
                 value.type_name());
  }
  return JsonFields(value, what);
}

const Json* JsonFields::find(std::string_view key) {
  asked_.emplace(key);
  auto found = value_->find(key);
  return found == value_->end() || found->is_null() ? nullptr : &*found;
}

bool JsonFields::has(std::string_view key) const {
  auto found = value_->find(key);
  return found != value_->end() && !found->is_null();
}

Status JsonFields::missing(std::string_view key) const {
  return error(Code::k_invalid_argument, "{}: field \"{}\" is missing", what_, key);
}

Status JsonFields::wrong(std::string_view key, std::string_view expected) const {
  auto found = value_->find(key);
  return error(Code::k_invalid_argument, "{}: field \"{}\" must be {}, got {}", what_, key,
               expected, found == value_->end() ? "nothing" : found->type_name());
}

Result<std::string> JsonFields::text(std::string_view key, size_t length_max) {
  const Json* field = find(key);
  if (field == nullptr) return missing(key);
  const auto* text = field->get_ptr<const std::string*>();
  if (text == nullptr) return wrong(key, "a text");
  if (text->size() > length_max) {
    return error(Code::k_invalid_argument, "{}: field \"{}\" has {} bytes, allowed are {}", what_,
                 key, text->size(), length_max);
  }
  return *text;
}

Result<std::string> JsonFields::text_or(std::string_view key, std::string_view otherwise,
                                        size_t length_max) {
  if (find(key) == nullptr) return std::string(otherwise);
  return text(key, length_max);
}

Result<uint64_t> JsonFields::u64(std::string_view key, uint64_t max) {
  const Json* field = find(key);
  if (field == nullptr) return missing(key);
  const auto* number = field->get_ptr<const Json::number_unsigned_t*>();
  // A value built in the program may be signed where the same number parsed is not.
  const auto* integer = field->get_ptr<const Json::number_integer_t*>();
  if (integer == nullptr || (number == nullptr && *integer < 0)) {
    return wrong(key, "a whole number that is not negative");
  }
  uint64_t value = number != nullptr ? *number : static_cast<uint64_t>(*integer);
  if (value > max) {
    return error(Code::k_invalid_argument, "{}: field \"{}\" is {}, allowed are at most {}", what_,
                 key, value, max);
  }
  return value;
}

Result<uint64_t> JsonFields::u64_or(std::string_view key, uint64_t otherwise, uint64_t max) {
  if (find(key) == nullptr) return otherwise;
  return u64(key, max);
}

Result<bool> JsonFields::boolean(std::string_view key) {
  const Json* field = find(key);
  if (field == nullptr) return missing(key);
  const bool* value = field->get_ptr<const bool*>();
  if (value == nullptr) return wrong(key, "true or false");
  return *value;
}

Result<bool> JsonFields::boolean_or(std::string_view key, bool otherwise) {
  if (find(key) == nullptr) return otherwise;
  return boolean(key);
}

Result<const Json*> JsonFields::list(std::string_view key, size_t count_max) {
  const Json* field = find(key);
  if (field == nullptr) return missing(key);
  if (!field->is_array()) return wrong(key, "a list");
  if (field->size() > count_max) {
    return error(Code::k_invalid_argument, "{}: field \"{}\" has {} entries, allowed are {}", what_,
                 key, field->size(), count_max);
  }
  return field;
}

Result<const Json*> JsonFields::object(std::string_view key) {
  const Json* field = find(key);
  if (field == nullptr) return missing(key);
  if (!field->is_object()) return wrong(key, "an object");
  return field;
}

Status JsonFields::reject_unknown() const {
  for (auto field = value_->begin(); field != value_->end(); ++field) {
    if (asked_.contains(field.key())) continue;
    return error(Code::k_invalid_argument, "{}: unknown field \"{}\"", what_,
                 field.key().substr(0, 64));
  }
  return {};
}

}  // namespace bb
