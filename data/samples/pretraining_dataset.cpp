#include "data/samples/pretraining_dataset.h"

#include <algorithm>
#include <utility>

#include "data/samples/permutation.h"
#include "data/shards/random_streams.h"
#include "runtime/error.h"

namespace bert {

namespace {

std::int64_t checked_content(const DatasetOptions& options) {
  check_short_probability(options.short_sequence_probability);
  if (options.static_masks < 0) {
    throw_input_error("the number of static masks is {}, expected 0 (none) or more",
                      options.static_masks);
  }
  return content_tokens(options.sequence_length, options.next_sentence);
}

}  // namespace

PretrainingDataset::PretrainingDataset(std::shared_ptr<const Corpus> corpus, Split split,
                                       const DatasetOptions& options)
    : corpus_(std::move(corpus)),
      shard_(&corpus_->shard(split)),
      options_(options),
      content_(checked_content(options)),
      masker_(options.masking, corpus_->manifest().vocab_size, corpus_->manifest().special.mask),
      cuts_(corpus_->cuts(split, {options.sampling, content_, options.short_sequence_probability})),
      special_(corpus_->manifest().special) {
  const std::string name = (corpus_->folder() / split_name(split)).string();
  if (num_samples() == 0) {
    throw_input_error(
        "{0}: this split of the corpus is empty; prepare the corpus again with "
        "--validation-fraction 0.05, or take the validation split of another one: "
        "data.path='[{1}, OTHER]' for train, --data OTHER for evaluate",
        name, corpus_->folder().string());
  }
  if (options.next_sentence && shard_->num_documents() < 2) {
    throw_input_error(
        "{}: next sentence prediction needs at least two documents, this split has "
        "one; separate documents by blank lines, or set objective.next_sentence to "
        "false",
        name);
  }
}

SampleRef PretrainingDataset::shuffled(std::uint64_t index) const {
  const std::uint64_t epoch = index / num_samples();
  if (epoch >= kEvaluationEpoch) {
    throw_runtime_error("training has run for {} epochs, the most that can be counted", epoch);
  }
  const KeyedPermutation order(num_samples(), options_.seed, epoch);
  const auto forms = static_cast<std::uint64_t>(options_.static_masks);
  return {forms > 0 ? epoch % forms : epoch, order(index % num_samples())};
}

SampleRef PretrainingDataset::in_order(std::uint64_t index) const {
  BERT_CHECK(index < num_samples());
  return {kEvaluationEpoch, index};
}

SamplePlan PretrainingDataset::plan(const SampleRef& ref) const {
  BERT_CHECK(ref.sample < num_samples());
  SamplePlan plan;
  plan.ref = ref;
  if (options_.next_sentence) {
    plan_pair(plan);
  } else {
    plan.a_begin = cuts_[ref.sample].token;
    plan.a_end = cuts_[ref.sample + 1].token;
  }
  // Only a cut table or a part with contradictions can miss this.
  const auto fits = [&](std::uint64_t begin, std::uint64_t end) {
    return begin <= end && end <= shard_->num_tokens() &&
           end - begin <= static_cast<std::uint64_t>(content_);
  };
  const std::uint64_t text = plan.a_end - plan.a_begin + plan.b_end - plan.b_begin;
  if (!fits(plan.a_begin, plan.a_end) || !fits(plan.b_begin, plan.b_end) ||
      text > static_cast<std::uint64_t>(content_)) {
    throw_input_error(
        "{}: the cut table of samples of {} tokens does not fit the text; rebuild the corpus with "
        "prepare_corpus",
        corpus_->folder().string(), content_);
  }
  plan.length = static_cast<std::int64_t>(text) + special_tokens(options_.next_sentence);
  return plan;
}

std::pair<std::uint32_t, std::uint32_t> PretrainingDataset::inner_sentences(
    std::uint64_t piece) const {
  const Cut cut = cuts_[piece], next = cuts_[piece + 1];
  const bool next_at_sentence = shard_->sentence_begin(next.sentence) == next.token;
  return {cut.sentence + 1, next_at_sentence ? next.sentence : next.sentence + 1};
}

std::uint64_t PretrainingDataset::split(std::uint64_t epoch, std::uint64_t piece) const {
  PhiloxStream random(options_.seed, kNextSplitStream, sample_index(epoch, piece));
  const auto [first, last] = inner_sentences(piece);
  if (first < last) {
    return shard_->sentence_begin(first + random.next_below(last - first));
  }
  // A single sentence: at a word, so that "B follows" and "B is random" stay equally likely here.
  std::vector<std::uint64_t> words;
  const std::uint64_t begin = cuts_[piece].token, end = cuts_[piece + 1].token;
  for (std::uint64_t token = begin + 1; token < end; ++token) {
    if (shard_->starts_word(token)) words.push_back(token);
  }
  if (!words.empty()) return words[random.next_below(static_cast<std::uint32_t>(words.size()))];
  const auto inner = static_cast<std::uint32_t>(end - begin - 1);
  return inner > 0 ? begin + 1 + random.next_below(inner) : end;
}

void PretrainingDataset::plan_pair(SamplePlan& plan) const {
  const std::uint64_t epoch = plan.ref.epoch;
  const std::uint64_t group = plan.ref.sample / 4, place = plan.ref.sample % 4;
  const std::uint64_t first = group * 3;  // the first of the group's pieces
  std::uint64_t piece = first + place;
  bool halved = false;
  if (first + 3 <= cuts_.num_samples()) {  // else one of the one or two pieces left over
    PhiloxStream random(options_.seed, kNextGroupStream, sample_index(epoch, group));
    std::uint64_t chosen = random.next_below(3);
    // One that can be split, if there is any.
    for (int i = 0; i < 2 && split(epoch, first + chosen) == cuts_[first + chosen + 1].token; ++i) {
      chosen = (chosen + 1) % 3;
    }
    halved = place >= 2;
    piece = halved ? first + chosen : first + place + (place >= chosen ? 1 : 0);
  }
  const std::uint64_t begin = cuts_[piece].token, end = cuts_[piece + 1].token;
  const std::uint64_t middle = split(epoch, piece);
  if (halved) {
    plan.a_begin = place == 2 ? begin : middle;
    plan.a_end = place == 2 ? middle : end;
    add_random_next(piece, plan);
  } else {
    plan.a_begin = begin;
    plan.a_end = plan.b_begin = middle;
    plan.b_end = end;
    if (middle == end) add_random_next(piece, plan);
  }
}

void PretrainingDataset::add_random_next(std::uint64_t piece, SamplePlan& plan) const {
  PhiloxStream random(options_.seed, kNextPartnerStream,
                      sample_index(plan.ref.epoch, plan.ref.sample));
  const auto [first, last] = cuts_.samples_of_document(piece);
  const std::uint64_t others = cuts_.num_samples() - (last - first);
  const std::uint64_t room = static_cast<std::uint64_t>(content_) - (plan.a_end - plan.a_begin);
  // B is the end of a piece of another document, as long as there is room, just as the B that
  // follows an A is: where it begins, how it ends and how long it is should not give the label
  // away. So a piece whose last sentence is too long is drawn again, unless it cannot be helped.
  std::uint64_t partner = 0;
  for (int draw = 0; draw < 16 && plan.b_begin == plan.b_end; ++draw) {
    partner = static_cast<std::uint64_t>(random.next_double() * static_cast<double>(others));
    if (partner >= first) partner += last - first;
    plan.b_end = cuts_[partner + 1].token;
    plan.b_begin = tail_of(partner, room);
  }
  if (plan.b_begin == plan.b_end) {
    plan.b_begin = std::max(cuts_[partner].token + 1, plan.b_end - std::min(room, plan.b_end));
  }
  plan.next_label = 1;
}

// Where the longest end of a piece begins that has at most `room` tokens and is not the whole of
// it, at a sentence; the piece's end if its last sentence is longer. A piece without the beginning
// of a sentence in it is cut at a word, one of a single token not at all.
std::uint64_t PretrainingDataset::tail_of(std::uint64_t piece, std::uint64_t room) const {
  const auto [first, last] = inner_sentences(piece);
  const std::uint64_t begin = cuts_[piece].token, end = cuts_[piece + 1].token;
  if (first < last) {
    std::uint64_t sentence = first;
    while (sentence < last && end - shard_->sentence_begin(sentence) > room) ++sentence;
    return sentence < last ? shard_->sentence_begin(sentence) : end;
  }
  if (end - begin == 1) return begin;
  std::uint64_t place = std::max(begin + 1, end - std::min(room, end));
  while (place < end && !shard_->starts_word(place)) ++place;
  return place;
}

void PretrainingDataset::append_text(std::uint64_t begin, std::uint64_t end, Batch& batch,
                                     Scratch& scratch) const {
  const std::size_t length = end - begin;
  if (length == 0) return;
  const std::size_t at = batch.input_ids.size();
  batch.input_ids.resize(at + length);
  shard_->read_ids(begin, {batch.input_ids.data() + at, length});
  scratch.word_starts.resize(length);
  shard_->read_word_starts(begin, scratch.word_starts);
  // The rest of a word whose beginning lies in another sample counts as a word of its own.
  scratch.word_starts[0] = 1;
  for (const std::uint8_t starts : scratch.word_starts) {
    scratch.roles.push_back(starts != 0 ? MaskRole::starts_word : MaskRole::continues_word);
  }
}

void PretrainingDataset::append(const SamplePlan& plan, std::uint32_t sequence_index, Batch& batch,
                                Scratch& scratch) const {
  const std::size_t first = batch.input_ids.size();
  scratch.roles.clear();
  const auto append_special = [&](std::int32_t id) {
    batch.input_ids.push_back(id);
    scratch.roles.push_back(MaskRole::never);
  };
  append_special(special_.cls);
  append_text(plan.a_begin, plan.a_end, batch, scratch);
  append_special(special_.sep);
  const std::size_t second = batch.input_ids.size();
  if (options_.next_sentence) {
    append_text(plan.b_begin, plan.b_end, batch, scratch);
    append_special(special_.sep);
    batch.sequence_labels.push_back(plan.next_label);
  }
  const std::size_t end = batch.input_ids.size();
  BERT_CHECK(static_cast<std::int64_t>(end - first) == plan.length);

  batch.token_type_ids.resize(second, 0);
  batch.token_type_ids.resize(end, 1);
  end_sequence(batch, sequence_index);

  PhiloxStream random(options_.seed, kMaskStream, sample_index(plan.ref.epoch, plan.ref.sample));
  masker_.mask(random, {batch.input_ids.data() + first, end - first}, scratch.roles,
               static_cast<std::int32_t>(first), batch.masked_rows, batch.masked_targets,
               scratch.masking);
}

}  // namespace bert
