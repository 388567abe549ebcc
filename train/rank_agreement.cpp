#include "train/rank_agreement.h"

#include <algorithm>
#include <cstdint>

#include <nlohmann/json.hpp>

#include "runtime/error.h"
#include "runtime/json.h"
#include "runtime/program.h"
#include "train/config/config_keys.h"
#include "train/config/finetune_config_keys.h"

namespace bert {
namespace {

const std::string* find(const Facts& facts, const std::string& name) {
  for (const auto& [known, value] : facts) {
    if (known == name) return &value;
  }
  return nullptr;
}

template <typename C>
Facts facts_of(const C& config, const ConfigTable<C>& table) {
  Facts facts{{"the program", version_string()}};
  for (const ConfigKeyOf<C>& key : table.keys()) facts.emplace_back(key.name, key.get(config));
  return facts;
}

}  // namespace

std::optional<std::string> first_difference(const Facts& here, const Facts& on_rank_zero) {
  for (const auto& [name, value] : here) {
    const std::string* const other = find(on_rank_zero, name);
    if (other == nullptr) return fmt::format("{} is {} here, unknown on rank 0", name, value);
    if (*other != value) return fmt::format("{} is {} here, {} on rank 0", name, value, *other);
  }
  for (const auto& [name, value] : on_rank_zero) {
    if (find(here, name) == nullptr) {
      return fmt::format("{} is unknown here, {} on rank 0", name, value);
    }
  }
  return std::nullopt;
}

Facts facts_of(const Config& config) { return facts_of(config, config_table()); }

Facts facts_of(const FinetuneConfig& config) { return facts_of(config, finetune_config_table()); }

void check_ranks_agree(Communicator& communicator, const Facts& facts) {
  if (communicator.size() == 1) return;
  using nlohmann::json;
  // What is not UTF-8 is compared as far as it can be shown.
  std::string text = one_line(json(facts));
  const auto here = parse_json<json>(text, "what is compared").get<Facts>();
  communicator.broadcast(text);
  const auto there = parse_json<json>(text, "what rank 0 compares").get<Facts>();
  const auto difference = first_difference(here, there);
  std::vector<std::int64_t> differs(static_cast<std::size_t>(communicator.size()), 0);
  differs[static_cast<std::size_t>(communicator.rank())] = difference ? 1 : 0;
  communicator.all_reduce_sum(differs);
  const auto lowest = std::find(differs.begin(), differs.end(), 1);
  if (lowest == differs.end()) return;
  if (lowest - differs.begin() == communicator.rank()) {
    throw_input_error("this rank is not like rank 0: {}; start all of them alike",
                      difference.value());
  }
  communicator.barrier();  // never completed
}

}  // namespace bert
