#include "model/sniff.h"

#include <algorithm>
#include <cctype>
#include <string>

#include "base/error.h"

namespace pygpt {
namespace {

using namespace std::string_view_literals;

struct Signature {
  std::string_view prefix;
  const char* what;
  const char* way_out;
};

constexpr const char* kExport = "run `pygpt export` on it";

constexpr Signature kSignatures[] = {
    {"PK\x03\x04"sv, "a ZIP archive, probably a PyTorch checkpoint", kExport},
    {"\x80\x02"sv, "a pickle, probably an old PyTorch checkpoint", kExport},
    {"\x80\x03"sv, "a pickle", kExport},
    {"\x80\x04"sv, "a pickle", kExport},
    {"\x80\x05"sv, "a pickle", kExport},
    {"GGUF"sv, "a GGUF file", "export the checkpoint that it was made from"},
    {"\x7f"
     "ELF"sv,
     "a program", "give the path of a model"},
    {"version https://git-lfs"sv, "a git-lfs pointer", "run `git lfs pull`"},
    {"<!DOCTYPE"sv, "a web page", "download the file itself"},
    {"<!doctype"sv, "a web page", "download the file itself"},
    {"<html"sv, "a web page", "download the file itself"},
};

/// safetensors: a little-endian length, then a JSON object.
bool is_safetensors(std::string_view start) {
  return start.size() > 9 && start[8] == '{' && start[6] == 0 && start[7] == 0;
}

[[noreturn]] void refuse(const char* what, const char* way_out) {
  throw ModelFileError("not_a_pygpt_file", "first line", 0, join("this is ", what, ", not a .pygpt file: ", way_out));
}

}  // namespace

void refuse_other_formats(std::string_view start) {
  constexpr std::string_view kMagic = "pygpt ";
  if (start.size() < kMagic.size() && kMagic.starts_with(start)) {
    throw ModelFileError("too_short", "first line", 0,
                         join("the file has ", start.size(), " bytes: it is empty or its copy was cut"));
  }
  if (start.starts_with(kMagic) || start.starts_with("\xef\xbb\xbfpygpt "))
    return;  // a byte order mark is the header's fault
  for (const Signature& signature : kSignatures) {
    if (start.starts_with(signature.prefix)) refuse(signature.what, signature.way_out);
  }
  if (is_safetensors(start)) refuse("a safetensors file", kExport);
  refuse("something else", "`pygpt export` makes one from a checkpoint");
}

}  // namespace pygpt
