// InputReport: what of the files of a task was not taken as it stands. Each finding has a place
// ("file:line", or of SQuAD's JSON "file: id"), and the same kinds are counted together.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bert {

enum class BadRows {
  refuse,  // an InputError ends the reading
  skip,    // the row (sentence, question) is left out and counted
};
std::string_view bad_rows_name(BadRows bad_rows);  // "refuse", "skip"
BadRows parse_bad_rows(std::string_view name);     // InputError naming the possible values

class InputReport {
 public:
  static constexpr std::size_t kMostPlaces = 3;

  enum class Effect { left_out, truncated, unusual };
  struct Finding {
    Effect effect;
    std::string kind;  // "ragged row"
    std::uint64_t count = 0;
    std::vector<std::string> first;  // "file:line: why" of the first kMostPlaces
  };

  explicit InputReport(BadRows bad_rows = BadRows::refuse) : bad_rows_(bad_rows) {}

  // Something that cannot be used: InputError "PLACE: WHY" with the way out, or counted.
  void bad(std::string_view kind, std::string_view place, std::string_view why);
  // Something that is used, but not whole.
  void truncated(std::string_view kind, std::string_view place, std::string_view why);
  // Something that is used as it is, and may not be what was meant.
  void unusual(std::string_view kind, std::string_view place, std::string_view why);

  const std::vector<Finding>& findings() const { return findings_; }
  std::uint64_t count(Effect effect) const;  // of all kinds together
  // One line a finding: "12 left out: ragged row (train.tsv:7: has 3 fields, expected 4; ...)".
  std::vector<std::string> lines() const;

 private:
  void add(Effect effect, std::string_view kind, std::string_view place, std::string_view why);

  BadRows bad_rows_;
  std::vector<Finding> findings_;
};

}  // namespace bert
