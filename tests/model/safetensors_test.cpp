#include "model/weights/safetensors.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include <gtest/gtest.h>
#include <unistd.h>

#include "runtime/error.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

class Safetensors : public testing::Test {
 protected:
  Safetensors()
      : folder_(fs::temp_directory_path() / ("bert_safetensors_" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
    path_ = folder_ / "a.safetensors";
  }
  ~Safetensors() override { fs::remove_all(folder_); }

  // A file of this header and so many data bytes.
  void write(const std::string& header, const std::string& data = "") {
    const std::uint64_t length = header.size();
    std::string content(reinterpret_cast<const char*>(&length), sizeof length);
    write_file_atomic(path_, content + header + data);
  }
  // Without waiting for the disk, for tests that write thousands of files.
  void write_plainly(const std::string& content) {
    fs::remove(path_);  // file systems sync a file that is cut to nothing and written again
    std::ofstream(path_, std::ios::binary) << content;
  }
  std::string open_error() {
    try {
      SafetensorsFile file(path_);
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(path_.string()), std::string::npos)
          << "the file is not named: " << error.what();
      return error.what();
    }
    return "";
  }
  void expect_error(const std::string& part) {
    const std::string message = open_error();
    EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in: " << message;
  }

  fs::path folder_, path_;
};

TEST_F(Safetensors, RoundTrip) {
  const std::vector<std::uint8_t> bytes{1, 2, 3};
  const std::vector<float> floats{0.0f,   -0.0f, 1.5f, std::numeric_limits<float>::denorm_min(),
                                  -7e37f, 0.1f};
  const std::vector<double> doubles{0.1, -3e300};
  const std::vector<std::int64_t> integers{-5, std::numeric_limits<std::int64_t>::max()};
  const double scalar = 42.0;
  const std::vector<SafetensorsView> views{
      {"bytes", DType::u8, {3}, bytes.data()},
      {"b \"quoted\" \xc3\xa9", DType::f32, {2, 3}, floats.data()},
      {"a", DType::f64, {2}, doubles.data()},
      {"empty", DType::f32, {0, 4}, nullptr},
      {"i", DType::i64, {2}, integers.data()},
      {"scalar", DType::f64, {}, &scalar}};
  write_safetensors(path_, views, {{"step", "12"}});
  const SafetensorsFile file(path_);
  EXPECT_EQ(file.metadata(),
            (std::map<std::string, std::string>{{"format", "pt"}, {"step", "12"}}));
  ASSERT_EQ(file.tensors().size(), views.size());
  for (const SafetensorsView& view : views) {
    const StoredTensor& tensor = file.at(view.name);
    EXPECT_EQ(tensor.shape, view.shape);
    EXPECT_EQ(tensor.bytes, tensor.numel() * static_cast<std::int64_t>(dtype_size(view.dtype)));
    if (tensor.bytes > 0) {
      EXPECT_EQ(std::memcmp(tensor.data, view.data, tensor.bytes), 0) << view.name;
    }
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data) % dtype_size(view.dtype), 0u);
  }
  EXPECT_EQ(file.at("scalar").shape_string(), "F64[]");
  EXPECT_EQ(file.find("none"), nullptr);
  EXPECT_THROW(file.at("none"), InputError);

  std::vector<double> wide(6);
  file.read(file.at("b \"quoted\" \xc3\xa9"), std::span<double>(wide));
  for (std::size_t i = 0; i < wide.size(); ++i) EXPECT_EQ(wide[i], floats[i]);
  std::vector<float> narrow(2);
  file.read(file.at("a"), std::span<float>(narrow));
  EXPECT_EQ(narrow[0], 0.1f);
  EXPECT_TRUE(std::isinf(narrow[1]));
  EXPECT_THROW(file.read(file.at("i"), std::span<float>(narrow)), InputError);

  // The same again gives the same bytes.
  const std::string first = read_file(path_);
  write_safetensors(path_, views, {{"step", "12"}});
  EXPECT_EQ(read_file(path_), first);
  std::uint64_t length = 0;
  std::memcpy(&length, first.data(), sizeof length);
  EXPECT_EQ(length % 8, 0u);
}

TEST_F(Safetensors, NarrowFloatsAreConverted) {
  // 1, -2.5, the largest, the smallest subnormal, the largest subnormal, -0, infinity.
  const std::vector<std::uint16_t> half{0x3c00, 0xc100, 0x7bff, 0x0001,
                                        0x03ff, 0x8000, 0x7c00, 0x7e00};
  const std::vector<float> expected_half{1.0f,  -2.5f,   65504.0f, 0x1p-24f, 1023 * 0x1p-24f,
                                         -0.0f, INFINITY};
  const std::vector<std::uint16_t> brain{0x3f80, 0xc020, 0x0001, 0x8000,
                                         0x7f80, 0x4049, 0xff80, 0x7fc0};
  const std::vector<float> expected_brain{1.0f,     -2.5f,     0x1p-133f, -0.0f,
                                          INFINITY, 3.140625f, -INFINITY};
  std::string data(32, '\0');
  std::memcpy(data.data(), half.data(), 16);
  std::memcpy(data.data() + 16, brain.data(), 16);
  write(R"({"h":{"dtype":"F16","shape":[8],"data_offsets":[0,16]},)"
        R"("b":{"dtype":"BF16","shape":[2,4],"data_offsets":[16,32]}})",
        data);
  const SafetensorsFile file(path_);
  std::vector<float> out(8);
  file.read(file.at("h"), std::span<float>(out));
  for (std::size_t i = 0; i < 7; ++i) {
    EXPECT_EQ(out[i], expected_half[i]) << i;
    EXPECT_EQ(std::signbit(out[i]), std::signbit(expected_half[i])) << i;
  }
  EXPECT_TRUE(std::isnan(out[7]));
  file.read(file.at("b"), std::span<float>(out));
  for (std::size_t i = 0; i < 7; ++i) {
    EXPECT_EQ(out[i], expected_brain[i]) << i;
    EXPECT_EQ(std::signbit(out[i]), std::signbit(expected_brain[i])) << i;
  }
  EXPECT_TRUE(std::isnan(out[7]));
}

TEST_F(Safetensors, DamageIsNamed) {
  const std::string good = R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const std::string data(8, '\0');
  write(good + "      ", data);
  EXPECT_EQ(open_error(), "");
  write(good, data.substr(1));
  expect_error("tensor t: its bytes end at 8 of 7");
  write(good, data + "x");
  expect_error("1 bytes after the last tensor belong to none");
  write_file_atomic(path_, "");
  expect_error("fewer than 8");
  write_file_atomic(path_, std::string("\xff\0\0\0\0\0\0\0{}", 10));
  expect_error("its header should have 255 bytes, but only 2 follow");
  write_file_atomic(path_, std::string(16, '\0'));
  expect_error("does not begin with '{'");
  write("{\"t\":", data);
  expect_error("not JSON");
  write("{\"\xff\":1}", data);
  expect_error("not JSON");

  const auto header = [&](const std::string& text) { write(text, data); };
  header(R"({"t":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}})");
  expect_error("tensor t: the dtype F33 is not known");
  header(R"({"t":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})");
  expect_error("tensor t: F32[3] needs 12 bytes, its data_offsets span 8");
  header(R"({"t":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})");
  expect_error("tensor t: shape holds -2");
  header(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})");
  expect_error("tensor t: its bytes end before they begin");
  header(R"({"t":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})");
  expect_error("tensor t: its shape has too many elements");
  header(R"({"t":{"dtype":"F32","shape":[2]}})");
  expect_error("tensor t: expected an object of dtype, shape and data_offsets");
  header(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})");
  expect_error("tensor t: expected an object of dtype, shape and data_offsets");
  header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
         R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})");
  expect_error("its header names a twice");
  header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
         R"("b":{"dtype":"U8","shape":[3],"data_offsets":[5,8]}})");
  expect_error("tensor b begins at byte 5, the one before ends at 4");
  header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
         R"("b":{"dtype":"U8","shape":[5],"data_offsets":[3,8]}})");
  expect_error("tensor b begins at byte 3, the one before ends at 4");
  header(R"({"__metadata__":{"format":1},"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})");
  expect_error("__metadata__.format is not a string");
}

// Whatever single bit of length or header flips, the file opens as something else that is valid
// (another name, say) or is refused with an InputError that names it; it never crashes.
TEST_F(Safetensors, BitFlipsInTheHeaderAreHarmless) {
  const std::vector<float> values(6, 1.0f);
  write_safetensors(path_, {{"first", DType::f32, {2, 2}, values.data()},
                            {"second", DType::f32, {2}, values.data()}});
  const std::string good = read_file(path_);
  std::uint64_t length = 0;
  std::memcpy(&length, good.data(), sizeof length);
  int refused = 0;
  for (std::size_t byte = 0; byte < 8 + length; ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[byte] = static_cast<char>(bad[byte] ^ (1 << bit));
      write_plainly(bad);
      refused += !open_error().empty();
    }
  }
  EXPECT_GT(refused, static_cast<int>(length) * 4);  // most flips break the JSON or the layout
}

TEST_F(Safetensors, EveryTruncationIsRefused) {
  const std::vector<float> values(6, 1.0f);
  write_safetensors(path_, {{"first", DType::f32, {2, 2}, values.data()},
                            {"second", DType::f32, {2}, values.data()}});
  const std::string good = read_file(path_);
  for (std::size_t size = 0; size < good.size(); ++size) {
    write_plainly(good.substr(0, size));
    EXPECT_NE(open_error(), "") << size;
  }
}

}  // namespace
}  // namespace bert
