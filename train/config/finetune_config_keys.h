// The table of fine-tuning's keys. Adding a key is a member of FinetuneConfig
// (train/config/finetune_config.h) and an entry in train/config/finetune_config_keys.cpp, or, where
// pre-training has it too, in train/config/config_shared_keys.h.
#pragma once

#include "train/config/config_table.h"
#include "train/config/finetune_config.h"

namespace bert {

const ConfigTable<FinetuneConfig>& finetune_config_table();

}  // namespace bert
