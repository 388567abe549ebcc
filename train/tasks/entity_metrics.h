// Entities in tagged words, and how well they were found, as conlleval (CoNLL-2000/2003) and
// seqeval in its default mode count: an entity is right if type, first and last word are.
//
// Tags are "O", or one of B, I, E, S, "-" and a type ("B-person"; a bare "B" has type "_"). Where
// they break their scheme's rules, an entity begins at B and S, after E, S and O, and where the
// type changes; it ends after E and S, and before what begins one. So one reading holds for IOB1,
// IOB2 and IOBES, and what a model says is judged even if it is no valid sequence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "train/tasks/task.h"

namespace bert {

struct Entity {
  std::size_t begin = 0, end = 0;  // words [begin, end)
  std::string type;
  bool operator==(const Entity&) const = default;
};

bool is_entity_tag(std::string_view tag);            // one of the above
std::string_view entity_type(std::string_view tag);  // "" of "O"

// In order; they do not overlap. Of one sentence.
std::vector<Entity> find_entities(std::span<const std::string> tags);

// The tags of a sentence of so many words that has these entities.
std::vector<std::string> tag_entities(std::span<const Entity> entities, std::size_t words,
                                      TagScheme scheme);

struct EntityCounts {
  std::int64_t gold = 0, predicted = 0, right = 0;

  // 0 where there is nothing to divide by.
  double precision() const;
  double recall() const;
  double f1() const;
};

class EntityScores {
 public:
  // Counts a sentence.
  void add(std::span<const std::string> gold, std::span<const std::string> predicted);

  const EntityCounts& all() const { return all_; }
  const std::map<std::string, EntityCounts>& types() const { return types_; }

 private:
  EntityCounts all_;
  std::map<std::string, EntityCounts> types_;
};

}  // namespace bert
