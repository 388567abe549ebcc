#include "train/tasks/entity_metrics.h"

#include <algorithm>

#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::string_view kPrefixes = "BIES";

char prefix_of(std::string_view tag) { return tag.empty() ? 'O' : tag.front(); }

// Whether an entity ends between two words.
bool ends_between(std::string_view before, std::string_view after) {
  const char first = prefix_of(before), second = prefix_of(after);
  if (first == 'O') return false;
  if (first == 'E' || first == 'S') return true;
  return second == 'O' || second == 'B' || second == 'S' ||
         entity_type(before) != entity_type(after);
}

bool begins_between(std::string_view before, std::string_view after) {
  const char first = prefix_of(before), second = prefix_of(after);
  if (second == 'O') return false;
  if (second == 'B' || second == 'S') return true;
  return first == 'O' || first == 'E' || first == 'S' || entity_type(before) != entity_type(after);
}

char prefix_in(const Entity& entity, std::size_t word, bool touches_same, TagScheme scheme) {
  const bool first = word == entity.begin, last = word + 1 == entity.end;
  switch (scheme) {
    case TagScheme::iob1:
      return first && touches_same ? 'B' : 'I';
    case TagScheme::iobes:
      return first && last ? 'S' : first ? 'B' : last ? 'E' : 'I';
    default:
      return first ? 'B' : 'I';
  }
}

double ratio(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

bool is_entity_tag(std::string_view tag) {
  if (tag == "O") return true;
  if (tag.empty() || kPrefixes.find(tag.front()) == std::string_view::npos) return false;
  return tag.size() == 1 || (tag.size() > 2 && tag[1] == '-');
}

std::string_view entity_type(std::string_view tag) {
  if (prefix_of(tag) == 'O') return "";
  return tag.size() > 2 ? tag.substr(2) : "_";
}

std::vector<Entity> find_entities(std::span<const std::string> tags) {
  std::vector<Entity> entities;
  std::string_view before = "O";
  for (std::size_t i = 0; i <= tags.size(); ++i) {
    const std::string_view tag = i < tags.size() ? std::string_view(tags[i]) : "O";
    if (ends_between(before, tag)) entities.back().end = i;
    if (begins_between(before, tag)) entities.push_back({i, i, std::string(entity_type(tag))});
    before = tag;
  }
  return entities;
}

std::vector<std::string> tag_entities(std::span<const Entity> entities, std::size_t words,
                                      TagScheme scheme) {
  std::vector<std::string> tags(words, "O");
  for (std::size_t i = 0; i < entities.size(); ++i) {
    const Entity& entity = entities[i];
    BERT_CHECK(entity.begin < entity.end && entity.end <= words);
    const bool touches_same =
        i > 0 && entities[i - 1].end == entity.begin && entities[i - 1].type == entity.type;
    for (std::size_t word = entity.begin; word < entity.end; ++word) {
      tags[word] = prefix_in(entity, word, touches_same, scheme);
      if (entity.type != "_") tags[word] += "-" + entity.type;
    }
  }
  return tags;
}

double EntityCounts::precision() const { return ratio(right, predicted); }
double EntityCounts::recall() const { return ratio(right, gold); }
double EntityCounts::f1() const { return ratio(2 * right, gold + predicted); }

void EntityScores::add(std::span<const std::string> gold, std::span<const std::string> predicted) {
  BERT_CHECK(gold.size() == predicted.size());
  const std::vector<Entity> wanted = find_entities(gold), found = find_entities(predicted);
  const auto count = [&](const std::vector<Entity>& entities, std::int64_t EntityCounts::*what) {
    for (const Entity& entity : entities) {
      ++(all_.*what);
      ++(types_[entity.type].*what);
    }
  };
  std::vector<Entity> right;
  std::copy_if(found.begin(), found.end(), std::back_inserter(right), [&](const Entity& entity) {
    return std::find(wanted.begin(), wanted.end(), entity) != wanted.end();
  });
  count(wanted, &EntityCounts::gold);
  count(found, &EntityCounts::predicted);
  count(right, &EntityCounts::right);
}

}  // namespace bert
