// What lies in a zip archive without being compressed, as PyTorch writes it (PKWARE APPNOTE 6.3,
// with zip64).
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>

namespace bert {

using ZipEntries = std::map<std::string, std::span<const std::byte>, std::less<>>;

// Name and bytes of each entry of `archive`, a whole file; the bytes lie in it. Checksums are not
// compared. InputError naming `source` where it is cut off or damaged, or an entry is compressed,
// encrypted, or there twice.
ZipEntries read_zip_entries(std::span<const std::byte> archive, const std::string& source);

}  // namespace bert
