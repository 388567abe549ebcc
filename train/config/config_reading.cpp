#include "train/config/config_reading.h"

#include <set>
#include <sstream>

#include <yaml-cpp/eventhandler.h>

#include "runtime/error.h"

namespace bert {
namespace {

[[noreturn]] void fail_unknown(const std::string& where, std::string_view key,
                               const KeyNames& names) {
  const std::string nearest = names.nearest(key);
  const std::string_view section = section_of(key);
  std::string hint;
  if (!nearest.empty()) {
    hint = fmt::format("; did you mean {}?", nearest);
  } else if (names.is_section(section)) {
    hint = fmt::format("; {} has {}", section, names.keys_of_section(section));
  }
  throw_input_error("{}: unknown key {}{} (--print-config shows every key)", where, key, hint);
}

// Appends what `value`, a map (or, with a name, a single key), assigns. `seen`: keys and sections
// met so far.
void collect(const ConfigValue& value, const KeyNames& names, std::set<std::string>& seen,
             std::vector<Assignment>& out) {
  if (const auto key = names.find(value.key())) {
    out.push_back({*key, value});
    return;
  }
  const bool top = value.key().empty();
  if (!top && !names.is_section(value.key())) fail_unknown(value.where(), value.key(), names);
  if (value.is_null()) return;  // a section without keys
  if (!value.node().IsMap()) {
    value.refuse("a section with some of the keys " + names.keys_of_section(value.key()));
  }
  for (const auto& entry : value.node()) {
    // The line of an error is that of the key, not of what stands below it.
    const ConfigValue name = value.child("", entry.first);
    if (!entry.first.IsScalar()) {
      throw_input_error("{}: a key is not a word", name.where());
    }
    const ConfigValue item = value.child(entry.first.Scalar(), entry.second);
    const bool known = names.find(item.key()) || names.is_section(item.key());
    if (!known) fail_unknown(name.where(), item.key(), names);
    if (!seen.insert(item.key()).second) {
      throw_input_error("{}: {} is given twice", name.where(), item.key());
    }
    collect(item, names, seen, out);
  }
}

class IgnoreEvents : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// Not by YAML::LoadAll, which does not end where there is a comma alone: to the library these are
// empty documents without number.
bool has_second_document(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  IgnoreEvents ignore;
  return parser.HandleNextDocument(ignore) && parser.HandleNextDocument(ignore);
}

YAML::Node parse_yaml(const std::string& text, const std::string& source, bool has_lines) {
  try {
    if (has_second_document(text)) {
      throw_input_error("{}: expected one YAML document, found more", source);
    }
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    if (!has_lines || error.mark.is_null()) {
      throw_input_error("{} is not YAML: {}", source, error.msg);
    }
    const bool tabs = text.find("\n\t") != std::string::npos;
    throw_input_error("{}:{} is not YAML: {}{}", source, error.mark.line + 1, error.msg,
                      tabs ? "; indent with spaces, not with tabs" : "");
  }
}

void collect_file(const std::string& yaml, const std::string& source, const KeyNames& names,
                  std::vector<Assignment>& out) {
  const YAML::Node root = parse_yaml(yaml, source, true);
  if (root.IsNull()) throw_input_error("{} is empty: expected a configuration", source);
  if (!root.IsMap()) {
    throw_input_error("{} is not a configuration: expected sections like `train:` with keys below",
                      source);
  }
  std::set<std::string> seen;
  collect(ConfigValue("", root, source, true), names, seen, out);
}

void collect_override(const std::string& text, const KeyNames& names,
                      std::vector<Assignment>& out) {
  const std::string source = std::string(kArgument) + text;
  const auto equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw_input_error("{}: expected key.path=value, such as train.max_steps=1000", source);
  }
  const YAML::Node node = parse_yaml(text.substr(equals + 1), source, false);
  std::set<std::string> seen;
  collect(ConfigValue(text.substr(0, equals), node, source, false), names, seen, out);
}

}  // namespace

std::vector<Assignment> read_assignments(const std::string& yaml, const std::string& source,
                                         const std::vector<std::string>& overrides,
                                         const KeyNames& names) {
  std::vector<Assignment> assignments;
  collect_file(yaml, source, names, assignments);
  for (const std::string& text : overrides) collect_override(text, names, assignments);
  return assignments;
}

}  // namespace bert
