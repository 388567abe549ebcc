// Checkpoints: what is written is read back, damage is found, and a disk that refuses leaves
// nothing half-written.
#include "train/checkpoint/checkpoint.h"

#include <algorithm>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "model/bert_for_pretraining.h"
#include "model/weights/safetensors.h"
#include "tests/data/corpus_fixture.h"
#include "tests/train/full_disk.h"
#include "train/step/backend.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

// A small model of random weights with moments that are random, too.
class Trained {
 public:
  explicit Trained(std::uint64_t seed) : backend_(make_backend(Precision::fp32, 1)) {
    BertConfig config = bert_preset("bert_tiny");
    config.vocab_size = 25;
    config.hidden_size = 16;
    config.num_attention_heads = 2;
    config.intermediate_size = 24;
    config.max_position_embeddings = 16;
    model_ = std::make_unique<BertForPretraining>(config, BertForPretraining::Heads::mlm_and_nsp);
    model_->allocate(*backend_.device, *backend_.ops,
                     {.tokens = 16, .sequences = 1, .masked = 4, .max_seqlen = 16}, true);
    model_->parameters().initialize(config, seed);
    const Tensor& values = model_->parameters().values();
    memory_.resize(2 * static_cast<std::size_t>(values.numel()));
    moments_ = {Tensor(memory_.data(), DType::f32, {values.numel()}),
                Tensor(memory_.data() + values.numel(), DType::f32, {values.numel()})};
    if (seed == 0) return;  // moments of zero
    // Only what belongs to a parameter: the padding between them stays zero.
    PhiloxStream random(seed, 9, 0);
    for (const Parameter& parameter : model_->parameters().parameters()) {
      for (std::int64_t i = 0; i < parameter.numel(); ++i) {
        const auto at = static_cast<std::size_t>(parameter.offset + i);
        memory_[at] = static_cast<float>(random.next_double() - 0.5);
        memory_[at + static_cast<std::size_t>(values.numel())] =
            static_cast<float>(random.next_double());
      }
    }
  }

  BertForPretraining& model() { return *model_; }
  const Moments& moments() const { return moments_; }
  const std::vector<float>& moment_values() const { return memory_; }
  std::vector<float> values() const {
    const Tensor& values = model_->parameters().values();
    return {values.data<float>(), values.data<float>() + values.numel()};
  }
  fs::path save(const fs::path& folder, const TrainerState& state) {
    const WordpieceTokenizer tokenizer = number_tokenizer(25);
    Snapshot snapshot(*model_, tokenizer);
    snapshot.take(state, moments_);
    return snapshot.save(folder);
  }

 private:
  Backend backend_;
  std::unique_ptr<BertForPretraining> model_;
  std::vector<float> memory_;
  Moments moments_;
};

TrainerState some_state(std::int64_t step) {
  TrainerState state;
  state.step = step;
  state.skipped = 3;
  state.seed = 0xFFFFFFFFFFFFFFFFu;  // more than a double can hold
  state.precision = "fp32";
  state.device = "NVIDIA H200";
  state.auto_micro_batch_tokens = 1536;
  state.product_choices = "version 1\nsome \"shape\" 3\n";
  state.world_size = 4;
  state.threads = 7;
  state.gradient_exponent = -11;
  state.corpus = "0123456789abcdef";
  state.best_loss = 1.0 / 3.0;
  state.best_step = 11;
  state.evaluations_since_best = 2;
  return state;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(TrainerStateTest, RoundTrip) {
  const TrainerState state = some_state(20);
  const TrainerState read = TrainerState::parse(state.to_json(), "test");
  EXPECT_EQ(read.step, 20);
  EXPECT_EQ(read.skipped, 3);
  EXPECT_EQ(read.seed, 0xFFFFFFFFFFFFFFFFu);
  EXPECT_EQ(read.precision, "fp32");
  EXPECT_EQ(read.device, "NVIDIA H200");
  EXPECT_EQ(read.product_choices, state.product_choices);
  EXPECT_EQ(read.auto_micro_batch_tokens, 1536);
  EXPECT_EQ(read.world_size, 4);
  EXPECT_EQ(read.threads, 7);
  EXPECT_EQ(read.gradient_exponent, -11);
  EXPECT_EQ(read.corpus, "0123456789abcdef");
  EXPECT_EQ(read.best_loss, 1.0 / 3.0);
  EXPECT_EQ(read.best_step, 11);
  EXPECT_EQ(read.evaluations_since_best, 2);
  // No evaluation yet: JSON has no infinity.
  EXPECT_EQ(TrainerState::parse(TrainerState().to_json(), "test").best_loss,
            std::numeric_limits<double>::infinity());
}

TEST(TrainerStateTest, RefusesWhatIsNotOne) {
  auto json = nlohmann::json::parse(some_state(20).to_json());
  const auto with = [whole = json](const char* key, const nlohmann::json& value) {
    auto changed = whole;
    changed[key] = value;
    return changed.dump();
  };
  json.erase("skipped");
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("{"), json.dump(), with("step", 1e300),
        with("seed", -1), with("threads", "2"), std::string(100000, '[')}) {
    try {
      TrainerState::parse(text, "state.json");
      ADD_FAILURE() << text;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find("state.json"), std::string::npos);
    }
  }
}

TEST(Checkpoint, RoundTrip) {
  TemporaryFolder folder;
  Trained saved(5), loaded(0);
  const fs::path path = saved.save(folder.path(), some_state(20));
  EXPECT_EQ(path.filename(), "step_00000020");
  EXPECT_NO_THROW(verify_checkpoint(path));
  EXPECT_NE(loaded.values(), saved.values());
  const TrainerState state = load_checkpoint(path, loaded.model(), loaded.moments());
  EXPECT_EQ(state.step, 20);
  EXPECT_EQ(loaded.values(), saved.values());
  EXPECT_EQ(loaded.moment_values(), saved.moment_values());
  EXPECT_EQ(names_in(path),
            (std::vector<std::string>{"checksums.json", "config.json", "model.safetensors",
                                      "optimizer.safetensors", "special_tokens_map.json",
                                      "tokenizer.json", "tokenizer_config.json",
                                      "trainer_state.json", "vocab.txt"}));
  // Saved again it is the same, to the byte.
  TemporaryFolder again;
  loaded.save(again.path(), state);
  for (const std::string& name : names_in(path)) {
    EXPECT_TRUE(read_file(path / name) == read_file(again / "step_00000020" / name)) << name;
  }
  // The moments are named like Hugging Face's tensors.
  const SafetensorsFile optimizer(path / "optimizer.safetensors");
  EXPECT_NE(optimizer.find("exp_avg.bert.encoder.layer.1.attention.self.key.weight"), nullptr);
  EXPECT_NE(optimizer.find("exp_avg_sq.cls.seq_relationship.bias"), nullptr);
}

TEST(Checkpoint, EveryFileIsVerified) {
  TemporaryFolder folder;
  const fs::path path = Trained(5).save(folder.path(), some_state(20));
  for (const std::string& name : names_in(path)) {
    const std::string whole = read_file(path / name);
    for (const std::size_t byte : {std::size_t{0}, whole.size() / 2, whole.size() - 2}) {
      flip_bit(path / name, 8 * byte + byte % 8);
      try {
        verify_checkpoint(path);
        ADD_FAILURE() << name << ", byte " << byte;
      } catch (const InputError& error) {
        EXPECT_NE(std::string(error.what()).find(path.string()), std::string::npos);
      }
      write_text(path / name, whole);
    }
    write_text(path / name, whole.substr(0, whole.size() / 2));
    EXPECT_THROW(verify_checkpoint(path), InputError) << name << ", truncated";
    fs::remove(path / name);
    EXPECT_THROW(verify_checkpoint(path), InputError) << name << ", missing";
    write_text(path / name, whole);
    EXPECT_NO_THROW(verify_checkpoint(path));
  }
}

TEST(Checkpoint, ADamagedTensorIsNamed) {
  TemporaryFolder folder;
  const fs::path path = Trained(5).save(folder.path(), some_state(20));
  const fs::path file = path / "optimizer.safetensors";
  const std::string name = "exp_avg_sq.bert.encoder.layer.1.attention.self.key.weight";
  std::size_t at = 0;
  {
    const SafetensorsFile opened(file);
    const MappedFile whole(file);
    const StoredTensor& tensor = opened.at(name);
    // The same offset in another mapping of the file: from its end.
    const StoredTensor& last = opened.tensors().back();
    at = whole.size() - static_cast<std::size_t>(last.data + last.bytes - tensor.data);
  }
  flip_bit(file, 8 * (at + 3));
  try {
    verify_checkpoint(path);
    ADD_FAILURE();
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
  }
}

// Before there was a checksum for each tensor, a file had one as a whole.
TEST(Checkpoint, AChecksumOfAWholeTensorFile) {
  TemporaryFolder folder;
  const fs::path path = Trained(5).save(folder.path(), some_state(20));
  auto list = nlohmann::json::parse(read_file(path / "checksums.json"));
  for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
    const std::string bytes = read_file(path / file);
    list[file] = fmt::format("{:016x}", XXH3_64bits(bytes.data(), bytes.size()));
  }
  write_text(path / "checksums.json", list.dump());
  EXPECT_NO_THROW(verify_checkpoint(path));
  flip_bit(path / "model.safetensors", 40000);
  EXPECT_THROW(verify_checkpoint(path), InputError);
}

TEST(Checkpoint, Links) {
  TemporaryFolder folder;
  for (const int step : {5, 10}) {
    fs::create_directories(folder / checkpoint_name(step));
    link_checkpoint(folder / checkpoint_name(step), "latest");
    EXPECT_EQ(fs::read_symlink(folder / "latest"), checkpoint_name(step));
  }
  EXPECT_EQ(names_in(folder.path()),
            (std::vector<std::string>{"latest", "step_00000005", "step_00000010"}));
}

TEST(Checkpoint, LinksLeadNowhereWrong) {
  TemporaryFolder folder;
  for (const int step : {5, 10, 20}) fs::create_directories(folder / checkpoint_name(step));
  set_links(folder.path(), 20, 10);
  EXPECT_EQ(fs::read_symlink(folder / "latest"), checkpoint_name(20));
  EXPECT_EQ(fs::read_symlink(folder / "best"), checkpoint_name(10));
  // The best could not be written: the one before stays, and is not pruned.
  set_links(folder.path(), 20, 15);
  EXPECT_EQ(fs::read_symlink(folder / "best"), checkpoint_name(10));
  prune_checkpoints(folder.path(), 1);
  EXPECT_TRUE(fs::exists(folder / "best") && fs::exists(folder / "latest"));
  EXPECT_FALSE(fs::exists(folder / checkpoint_name(5)));
  // Gone back to a step before both.
  fs::create_directories(folder / checkpoint_name(7));
  set_aside_checkpoints(folder.path(), 7);
  set_links(folder.path(), 7, 3);
  EXPECT_EQ(fs::read_symlink(folder / "latest"), checkpoint_name(7));
  EXPECT_FALSE(fs::is_symlink(folder / "best"));
}

TEST(Checkpoint, NoneIsBestBeforeAnEvaluation) {
  TemporaryFolder folder;
  for (const int step : {0, 10}) fs::create_directories(folder / checkpoint_name(step));
  link_checkpoint(folder / checkpoint_name(0), "best");
  set_links(folder.path(), 0, 0);
  EXPECT_EQ(fs::read_symlink(folder / "latest"), checkpoint_name(0));
  EXPECT_FALSE(fs::is_symlink(folder / "best"));
  set_links(folder.path(), 10, 10);
  EXPECT_EQ(fs::read_symlink(folder / "best"), checkpoint_name(10));
}

TEST(TrainerStateTest, CountsEvaluations) {
  TrainerState state;
  const auto note = [&](std::int64_t step, double loss) {
    state.step = step;
    return state.note_evaluation(loss, 0.1, 2);
  };
  EXPECT_TRUE(note(1, 5.0).best);
  EXPECT_FALSE(note(2, 4.95).best);  // not by as much as is asked for
  EXPECT_TRUE(note(3, 4.8).best);
  EXPECT_EQ(state.best_step, 3);
  EXPECT_FALSE(note(4, std::nan("")).stop);
  const Verdict last = note(5, -std::numeric_limits<double>::infinity());
  EXPECT_FALSE(last.best);
  EXPECT_TRUE(last.stop);
  EXPECT_EQ(state.best_loss, 4.8);
}

TEST(Checkpoint, NewestThatVerifies) {
  TemporaryFolder folder;
  std::vector<std::string> damage;
  const auto note = [&](const std::string& text) { damage.push_back(text); };
  EXPECT_FALSE(newest_checkpoint(folder / "nothing", note));
  EXPECT_FALSE(newest_checkpoint(folder.path(), note));
  Trained trained(5);
  for (const std::int64_t step : {5, 20, 100000000}) trained.save(folder.path(), some_state(step));
  fs::create_directories(folder / "step_00000030.tmp");
  fs::create_directories(folder / "step_final");
  fs::create_directories(folder / "step_99999999999999999999");  // no number of steps
  write_text(folder / "step_00000040", "a file");
  // The greatest number, which is not the last of the names.
  EXPECT_EQ(newest_checkpoint(folder.path(), note), folder / "step_100000000");
  EXPECT_TRUE(damage.empty());
  flip_bit(folder / "step_100000000" / "model.safetensors", 5000);
  EXPECT_EQ(newest_checkpoint(folder.path(), note), folder / "step_00000020");
  EXPECT_EQ(damage.size(), 1u);
  fs::remove(folder / "step_00000020" / "checksums.json");
  EXPECT_EQ(newest_checkpoint(folder.path(), note), folder / "step_00000005");
  fs::remove(folder / "step_00000005" / "checksums.json");
  EXPECT_THROW(newest_checkpoint(folder.path(), note), InputError);
}

TEST(Checkpoint, PruneKeepsTheNewestAndTheBest) {
  TemporaryFolder folder;
  for (const int step : {1, 5, 10, 20, 100}) {
    fs::create_directories(folder / checkpoint_name(step));
    write_text(folder / checkpoint_name(step) / "config.json", "{");
  }
  fs::create_directories(folder / "step_00000030.tmp");
  write_text(folder / "step_00000030.tmp" / "config.json", "{");
  fs::create_directories(folder / "step_00000200.set_aside");
  fs::create_directories(folder / "mine");
  link_checkpoint(folder / checkpoint_name(5), "best");
  prune_checkpoints(folder.path(), 2);
  EXPECT_EQ(names_in(folder.path()),
            (std::vector<std::string>{"best", "mine", "step_00000005", "step_00000020",
                                      "step_00000100", "step_00000200.set_aside"}));
}

TEST(Checkpoint, SetAside) {
  TemporaryFolder folder;
  for (const int step : {5, 10, 20}) fs::create_directories(folder / checkpoint_name(step));
  fs::create_directories(folder / "step_00000020.set_aside");  // an earlier one stays
  EXPECT_EQ(set_aside_checkpoints(folder.path(), 5).size(), 2u);
  EXPECT_EQ(names_in(folder.path()),
            (std::vector<std::string>{"step_00000005", "step_00000010.set_aside",
                                      "step_00000020.set_aside", "step_00000020.set_aside.2"}));
}

TEST(Checkpoint, ModelFilesAreCheckedWithoutTheOptimizer) {
  TemporaryFolder folder;
  Trained(5).save(folder.path(), some_state(20));
  const fs::path checkpoint = folder / "step_00000020";
  fs::remove(checkpoint / "optimizer.safetensors");
  EXPECT_NO_THROW(verify_model_files(checkpoint));
  const fs::path model = checkpoint / "model.safetensors";
  std::string bytes = read_file(model);
  bytes[bytes.size() - 9] = static_cast<char>(bytes[bytes.size() - 9] ^ 4);
  write_text(model, bytes);
  EXPECT_THROW(verify_model_files(checkpoint), InputError);
  fs::remove(checkpoint / "checksums.json");  // as Hugging Face writes a folder
  EXPECT_NO_THROW(verify_model_files(checkpoint));
}

TEST(Checkpoint, ReplacesOneOfTheSameStep) {
  TemporaryFolder folder;
  Trained(5).save(folder.path(), some_state(20));
  Trained other(6), loaded(0);
  fs::create_directories(folder / "step_00000020.tmp");  // of a run that was killed
  write_text(folder / "step_00000020.tmp" / "extra", "x");
  const fs::path path = other.save(folder.path(), some_state(20));
  verify_checkpoint(path);
  EXPECT_FALSE(fs::exists(path / "extra"));
  load_checkpoint(path, loaded.model(), loaded.moments());
  EXPECT_EQ(loaded.values(), other.values());
}

void expect_failed_save(const fs::path& folder, const std::string& why) {
  Trained trained(5);
  try {
    trained.save(folder, some_state(30));
    ADD_FAILURE() << "it was written";
  } catch (const RuntimeError& error) {
    EXPECT_NE(std::string(error.what()).find("step_00000030"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(why), std::string::npos) << error.what();
  }
}

TEST(Checkpoint, ARefusingDiskLeavesNothing) {
  TemporaryFolder folder;
  const fs::path whole = Trained(5).save(folder.path(), some_state(20));
  // Whichever file is the first that does not fit.
  for (const char* name : {"config.json", "model.safetensors", "optimizer.safetensors"}) {
    const FullDisk limit(fs::file_size(whole / name) / 2);
    expect_failed_save(folder.path(), "File too large");
    EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"step_00000020"}) << name;
  }
  EXPECT_NO_THROW(verify_checkpoint(whole));
}

TEST(Checkpoint, AFullDiskLeavesNothing) {
  TemporaryFolder folder;
  const fs::path disk = folder / "disk";
  const SmallDisk mounted(disk, "160k");
  if (!mounted.missing().empty()) GTEST_SKIP() << mounted.missing();
  Trained(5).save(disk, some_state(20));
  EXPECT_NO_THROW(expect_failed_save(disk, "No space left"));
  EXPECT_EQ(names_in(disk), std::vector<std::string>{"step_00000020"});
  EXPECT_NO_THROW(verify_checkpoint(disk / "step_00000020"));
}

}  // namespace
}  // namespace bert
