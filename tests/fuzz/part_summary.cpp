// part.json of a part of a corpus that prepare_corpus has finished. Damage is no error there: the
// part is made again.
#include "data/shards/corpus_parts.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert;
  using namespace bert::fuzz;
  static const auto folder = scratch_folder() / "part";
  static const bool written = [] {
    std::filesystem::create_directories(folder);
    TokenShardWriter writer(folder, 100);
    writer.append({{5, 6, 7}, {1, 0, 1}, {3}});
    writer.commit();
    return true;
  }();
  require(written, "the part is there");
  put_file("part/part.json", as_text(data, size));
  PartPlan plan;
  plan.key = "key";
  PartSummary summary;
  if (load_part_summary(folder, plan, 100, summary)) {
    require(summary.documents == 1 && summary.tokens == 3, "what is taken fits the part's files");
  }
  return 0;
}
