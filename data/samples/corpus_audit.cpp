#include "data/samples/corpus_audit.h"

#include <algorithm>
#include <vector>

#include "runtime/error.h"

namespace bert {

namespace {

LengthStatistics summarize(std::vector<std::int64_t> lengths) {
  std::sort(lengths.begin(), lengths.end());
  const auto quantile = [&](double share) {
    return lengths[static_cast<std::size_t>(share * static_cast<double>(lengths.size() - 1))];
  };
  LengthStatistics statistics{lengths.front(), quantile(0.1),  quantile(0.5),
                              quantile(0.9),   lengths.back(), 0};
  for (const std::int64_t length : lengths) statistics.mean += static_cast<double>(length);
  statistics.mean /= static_cast<double>(lengths.size());
  return statistics;
}

// Words of tokens [begin, end), which stand at rows first_row and on.
void count_words(const TokenShard& shard, std::uint64_t begin, std::uint64_t end,
                 std::size_t first_row, const std::vector<bool>& chosen, DatasetAudit& audit) {
  while (begin < end) {
    std::uint64_t word_end = begin + 1;
    while (word_end < end && !shard.starts_word(word_end)) ++word_end;
    std::uint64_t count = 0;
    for (std::uint64_t token = begin; token < word_end; ++token) {
      count += chosen[first_row + (token - begin)] ? 1 : 0;
    }
    audit.words += count > 0 ? 1 : 0;
    audit.whole_words += count == word_end - begin ? 1 : 0;
    first_row += word_end - begin;
    begin = word_end;
  }
}

}  // namespace

DatasetAudit audit_dataset(const PretrainingDataset& dataset, std::uint64_t max_samples) {
  const SpecialTokens& special = dataset.corpus().manifest().special;
  DatasetAudit audit;
  audit.samples = std::min(dataset.num_samples(), max_samples);
  if (audit.samples == 0) return audit;
  std::vector<std::int64_t> lengths;
  PretrainingDataset::Scratch scratch;
  for (std::uint64_t i = 0; i < audit.samples; ++i) {
    const SamplePlan plan = dataset.plan(dataset.shuffled(i));
    Batch batch;
    dataset.append(plan, 0, batch, scratch);
    lengths.push_back(plan.length);
    audit.tokens += batch.input_ids.size();
    audit.predicted += batch.masked_rows.size();
    audit.without_target += batch.masked_rows.empty() ? 1 : 0;
    audit.random_next += plan.next_label == 1 ? 1 : 0;
    std::vector<bool> chosen(batch.input_ids.size());
    for (std::size_t k = 0; k < batch.masked_rows.size(); ++k) {
      const auto row = static_cast<std::size_t>(batch.masked_rows[k]);
      chosen[row] = true;
      std::int32_t& id = batch.input_ids[row];
      if (id == special.mask) {
        ++audit.masked;
      } else if (id == batch.masked_targets[k]) {
        ++audit.kept;
      } else {
        ++audit.replaced;
      }
      id = batch.masked_targets[k];
    }
    audit.unknown += static_cast<std::uint64_t>(
        std::count(batch.input_ids.begin(), batch.input_ids.end(), special.unk));
    audit.padding += static_cast<std::uint64_t>(
        std::count(batch.input_ids.begin(), batch.input_ids.end(), special.pad));
    const TokenShard& shard = dataset.shard();
    count_words(shard, plan.a_begin, plan.a_end, 1, chosen, audit);
    const std::size_t b_row = 2 + (plan.a_end - plan.a_begin);
    count_words(shard, plan.b_begin, plan.b_end, b_row, chosen, audit);
  }
  audit.lengths = summarize(std::move(lengths));
  return audit;
}

std::string describe_sample(const PretrainingDataset& dataset, const Tokenizer& tokenizer,
                            const SampleRef& ref) {
  const SpecialTokens& special = dataset.corpus().manifest().special;
  PretrainingDataset::Scratch scratch;
  Batch batch;
  dataset.append(dataset.plan(ref), 0, batch, scratch);
  std::string text;
  std::vector<std::int32_t> plain;  // not yet written: decoded together, so that words are joined
  const auto write = [&](const std::string& part) {
    if (!text.empty() && !part.empty()) text += ' ';
    text += part;
  };
  const auto flush = [&] {
    if (!plain.empty()) write(tokenizer.decode(plain));
    plain.clear();
  };
  std::size_t next = 0;
  for (std::size_t row = 0; row < batch.input_ids.size(); ++row) {
    const std::int32_t id = batch.input_ids[row];
    if (next == batch.masked_rows.size() ||
        static_cast<std::size_t>(batch.masked_rows[next]) != row) {
      plain.push_back(id);
      continue;
    }
    flush();
    const std::int32_t target = batch.masked_targets[next++];
    const std::string_view original = tokenizer.piece(target);
    if (id == special.mask) {
      write(fmt::format("[{}]", original));
    } else if (id == target) {
      write(fmt::format("[{}=]", original));
    } else {
      write(fmt::format("[{}=>{}]", original, tokenizer.piece(id)));
    }
  }
  flush();
  if (!batch.sequence_labels.empty()) {
    text += batch.sequence_labels[0] == 1 ? "  (random next)" : "  (is next)";
  }
  return text;
}

}  // namespace bert
