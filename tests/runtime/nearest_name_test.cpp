#include "runtime/nearest_name.h"

#include <gtest/gtest.h>

namespace bert {
namespace {

TEST(NearestName, EditDistance) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("flaw", "lawn"), 2u);
}

TEST(NearestName, IsTheFirstOfTheNearestOrNone) {
  const std::vector<std::string> names{"--threads", "--device", "--output"};
  EXPECT_EQ(nearest_name("--thread", names, 2), "--threads");
  EXPECT_EQ(nearest_name("--otuput", names, 2), "--output");
  EXPECT_EQ(nearest_name("--otuput", names, 1), "");
  EXPECT_EQ(nearest_name("--dev", {"--dex", "--dey"}, 2), "--dex");
  EXPECT_EQ(nearest_name("--x", {}, 2), "");
}

}  // namespace
}  // namespace bert
