#include "data/pretraining_dataset.h"

#include <algorithm>
#include <utility>

#include "data/permutation.h"
#include "data/random_streams.h"
#include "runtime/error.h"

namespace bert {

namespace {

std::int64_t content_tokens(const DatasetOptions& options) {
  if (options.sequence_length < 8 || options.sequence_length > 1 << 20) {
    throw_input_error("the sequence length is {}, expected 8 to {}", options.sequence_length,
                      1 << 20);
  }
  return options.sequence_length - (options.next_sentence ? 3 : 2);
}

}  // namespace

PretrainingDataset::PretrainingDataset(std::shared_ptr<const Corpus> corpus, Part part,
                                       const DatasetOptions& options)
    : corpus_(std::move(corpus)),
      shard_(&corpus_->shard(part)),
      options_(options),
      content_(content_tokens(options)),
      masker_(options.masking, corpus_->manifest().vocab_size, corpus_->manifest().special.mask),
      cuts_(corpus_->cuts(part, options.sampling, content_)),
      special_(corpus_->manifest().special) {
  const std::string name = (corpus_->folder() / part_name(part)).string();
  if (num_samples() == 0) {
    throw_input_error(
        "{}: this part of the corpus is empty; prepare the corpus again with another "
        "--validation-fraction",
        name);
  }
  if (options.next_sentence && shard_->num_documents() < 2) {
    throw_input_error(
        "{}: next sentence prediction needs at least two documents, this part has "
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
  return {epoch, order(index % num_samples())};
}

SampleRef PretrainingDataset::in_order(std::uint64_t index) const {
  BERT_CHECK(index < num_samples());
  return {kEvaluationEpoch, index};
}

SamplePlan PretrainingDataset::plan(const SampleRef& ref) const {
  SamplePlan plan;
  plan.ref = ref;
  plan.a_begin = cuts_[ref.sample].token;
  plan.a_end = cuts_[ref.sample + 1].token;
  if (options_.next_sentence) plan_next_sentence(plan);
  const std::uint64_t text = plan.a_end - plan.a_begin + plan.b_end - plan.b_begin;
  const std::int64_t specials = options_.next_sentence ? 3 : 2;
  plan.length = static_cast<std::int64_t>(text) + specials;
  return plan;
}

// The place in the middle of a sample where B begins; its end if it has a single token.
std::uint64_t PretrainingDataset::split(const SampleRef& ref) const {
  const Cut cut = cuts_[ref.sample], next = cuts_[ref.sample + 1];
  PhiloxStream random(options_.seed, kNextSplitStream, sample_index(ref.epoch, ref.sample));
  // Sentences that begin after the first token and before the end.
  const bool next_at_sentence = shard_->sentence_begin(next.sentence) == next.token;
  const std::uint32_t last = next_at_sentence ? next.sentence - 1 : next.sentence;
  if (last > cut.sentence) {
    return shard_->sentence_begin(cut.sentence + 1 + random.next_below(last - cut.sentence));
  }
  // A single sentence: at a word, so that "B follows" and "B is random" stay equally likely here.
  std::vector<std::uint64_t> words;
  for (std::uint64_t token = cut.token + 1; token < next.token; ++token) {
    if (shard_->starts_word(token)) words.push_back(token);
  }
  if (!words.empty()) return words[random.next_below(static_cast<std::uint32_t>(words.size()))];
  const auto inner = static_cast<std::uint32_t>(next.token - cut.token - 1);
  return inner > 0 ? cut.token + 1 + random.next_below(inner) : next.token;
}

void PretrainingDataset::plan_next_sentence(SamplePlan& plan) const {
  plan.b_end = plan.a_end;
  plan.a_end = plan.b_begin = split(plan.ref);
  const SampleRef& ref = plan.ref;
  PhiloxStream random(options_.seed, kNextPartnerStream, sample_index(ref.epoch, ref.sample));
  const bool random_next = (random.next_u32() >> 31) != 0;
  if (!random_next && plan.b_begin < plan.b_end) return;
  // The B of a sample of another document, which begins where a true B could: nothing about B
  // itself then tells the two labels apart.
  const auto [first, last] = cuts_.samples_of_document(ref.sample);
  const std::uint64_t others = num_samples() - (last - first);
  auto partner = static_cast<std::uint64_t>(random.next_double() * static_cast<double>(others));
  if (partner >= first) partner += last - first;
  const std::uint64_t partner_end = cuts_[partner + 1].token;
  plan.b_begin = split({ref.epoch, partner});
  if (plan.b_begin == partner_end) plan.b_begin = cuts_[partner].token;
  const std::uint64_t room = static_cast<std::uint64_t>(content_) - (plan.a_end - plan.a_begin);
  plan.b_end = std::min(partner_end, plan.b_begin + room);
  plan.next_label = 1;
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
    batch.nsp_labels.push_back(plan.next_label);
  }
  const std::size_t end = batch.input_ids.size();
  BERT_CHECK(static_cast<std::int64_t>(end - first) == plan.length);

  batch.token_type_ids.resize(second, 0);
  batch.token_type_ids.resize(end, 1);
  for (std::size_t i = first; i < end; ++i) {
    batch.position_ids.push_back(static_cast<std::int32_t>(i - first));
  }
  if (batch.cu_seqlens.empty()) batch.cu_seqlens.push_back(0);
  batch.cu_seqlens.push_back(static_cast<std::int32_t>(end));
  batch.sequence_index.push_back(sequence_index);

  PhiloxStream random(options_.seed, kMaskStream, sample_index(plan.ref.epoch, plan.ref.sample));
  masker_.mask(random, {batch.input_ids.data() + first, end - first}, scratch.roles,
               static_cast<std::int32_t>(first), batch.masked_rows, batch.masked_targets,
               scratch.masking);
}

}  // namespace bert
