// The table of pre-training's keys. Adding a key is a member of Config (train/config/config.h) and
// an entry in train/config/config_keys.cpp, or, where fine-tuning has it too, in
// train/config/config_shared_keys.h.
#pragma once

#include <vector>

#include "train/config/config.h"
#include "train/config/config_table.h"

namespace bert {

using ConfigKey = ConfigKeyOf<Config>;

const ConfigTable<Config>& config_table();
const std::vector<ConfigKey>& config_keys();

}  // namespace bert
