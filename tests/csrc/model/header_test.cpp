// Headers that no exporter writes. Each fault is made in a file whose header checksum is right again afterwards, so
// that the check that should see it is the one that does. The numbers are rows of the project's table of bad model
// files.

#include "model/header.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "check.h"
#include "model/builder.h"

namespace pygpt::test {
namespace {

constexpr const char* k2To63Less1 = "9223372036854775807";

/// Reads a header from memory of exactly this size: a sanitizer sees any read past it.
Header parse(const std::string& bytes) {
  const auto exact = std::make_unique<std::byte[]>(bytes.size());
  std::memcpy(exact.get(), bytes.data(), bytes.size());
  return parse_header({exact.get(), bytes.size()}, static_cast<int64_t>(bytes.size()));
}

void expect_refused(const std::string& code, const std::string& bytes, const std::string& what = "") {
  expect_code(code, [&] { parse(bytes); }, what);
}

/// The message says `words`.
void expect_says(const std::string& words, const std::string& code, const std::string& bytes) {
  const auto error = expect_throws<ModelFileError>([&] { parse(bytes); }, words);
  expect_equal(error.code, code, error.what());
  expect((error.section + ": " + error.what()).find(words) != std::string::npos,
         join("\"", error.section, ": ", error.what(), "\" lacks \"", words, "\""));
}

/// A small model with one word of one line replaced.
std::string patched(std::string_view beginning, size_t word, const std::string& value) {
  Parts parts = small_model();
  std::string& line = parts.line(beginning);
  line = with_word(line, word, value);
  return parts.bytes();
}

/// A small model with this line in the place of another.
std::string replaced(std::string_view beginning, const std::string& line) {
  Parts parts = small_model();
  parts.line(beginning) = line;
  return parts.bytes();
}

std::string inserted_before(std::string_view beginning, const std::string& line) {
  Parts parts = small_model();
  const std::string* place = &parts.line(beginning);
  parts.lines.insert(parts.lines.begin() + (place - parts.lines.data()), line);
  return parts.bytes();
}

void good() {
  for (const bool tied : {false, true}) {
    for (const char* format : {"f32", "f16", "bf16"}) {
      const Parts parts =
          small_model({.n_layer = 3, .tied_head = tied, .biases = !tied, .format = format, .stop_tokens = "0,10"});
      const std::string bytes = parts.bytes();
      const Header header = parse(bytes);
      expect_equal(header.config.n_layer, 3);
      expect_equal(header.config.stop_tokens, (std::vector<int64_t>{0, 10}));
      expect_equal(header.blobs.size(), 2u);
      expect_equal(header.defaults.size(), 2u);
      expect_equal(header.file_bytes(), std::ssize(bytes));
      expect_equal(header.data_start % 64, 0);
    }
  }
}
const Test good_test{"a good header is read", good};

void a1_a2_short() {
  const std::string bytes = small_model().bytes();
  const Header header = parse(bytes);
  for (int64_t length = 0; length < header.end + 64; ++length) {
    expect_refused(length < 6 ? "too_short" : "truncated", bytes.substr(0, static_cast<size_t>(length)),
                   join(length, " bytes"));
  }
  for (const TensorEntry& tensor : header.tensors) {
    for (const int64_t shift : {-1, 0, 1}) {
      const int64_t length = header.data_start + tensor.extent.offset + shift;
      expect_refused("truncated", bytes.substr(0, static_cast<size_t>(length)), join(length, " bytes"));
    }
  }
  expect_refused("truncated", bytes.substr(0, bytes.size() - 1));
}
const Test a1_a2_short_test{"A1 A2: a file cut anywhere is refused", a1_a2_short};

void a3_trailing() {
  expect_refused("length_mismatch", small_model().bytes() + "x");
  expect_refused("length_mismatch", small_model().bytes() + std::string(64, '\0'));
  expect_refused("length_mismatch", small_model().bytes() + std::string(1 << 20, '\0'));
}
const Test a3_trailing_test{"A3: bytes after the last tensor are refused", a3_trailing};

void a4_other_formats() {
  using namespace std::string_literals;
  const std::string rest(200, ' ');
  const std::pair<std::string, const char*> formats[] = {
      {"PK\x03\x04"s, "pygpt export"},
      {"\x80\x02}q\x01"s, "pygpt export"},
      {"\x80\x05\x95"s, "pickle"},
      {"GGUF\x03\0\0\0"s, "GGUF"},
      {"\x40\x01\0\0\0\0\0\0{\"__metadata__\":"s, "safetensors"},
      {"\x7f"s + "ELF\x02"s, "program"},
      {"<!DOCTYPE html>"s, "web page"},
      {"<!doctype html>"s, "web page"},
      {"<html>"s, "web page"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:"s, "git lfs pull"},
      {"{\"model_type\": \"gpt2\"}"s, "pygpt export"},
      {"\0\0\0\0\0\0\0\0\0\0"s, "pygpt export"},
      {"Pygpt 1\n"s, "pygpt export"},
      {"pygpt\n"s, "pygpt export"},
  };
  for (const auto& [beginning, words] : formats) expect_says(words, "not_a_pygpt_file", beginning + rest);
}
const Test a4_other_formats_test{"A4: files of other kinds are named, with the way out", a4_other_formats};

void a5_text_mode() {
  std::string damaged;
  for (const char c : small_model().bytes()) damaged += c == '\n' ? std::string("\r\n") : std::string(1, c);
  expect_says("damaged by text-mode transfer", "invalid_header", damaged);
}
const Test a5_text_mode_test{"A5: CR LF line ends are called what they are", a5_text_mode};

void a6_version() {
  for (const char* version : {"0", "2", "65535", k2To63Less1}) {
    expect_says(join("version ", version), "unsupported_version", replaced("pygpt", join("pygpt ", version)));
  }
  for (const char* line :
       {"pygpt 01", "pygpt -1", "pygpt 1.0", "pygpt one", "pygpt 1 2", "pygpt 9223372036854775808"}) {
    expect_refused("invalid_header", replaced("pygpt", line), line);
  }
}
const Test a6_version_test{"A6: another version is refused with both versions", a6_version};

void a7_lines() {
  for (const char* place : {"config n_layer", "config d_ff", "default temperature", "default top_k",
                            "blob tokenizer.json", "tensor wte", "tensor ln_f.gain"}) {
    expect_says("\"surprise\"", "invalid_header", inserted_before(place, "surprise 1 2"));
  }
  expect_says("\"surprise\"", "invalid_header", [] {
    Parts parts = small_model();
    parts.lines.push_back("surprise");
    return parts.bytes();
  }());
  // A line in the wrong group.
  expect_says("\"config\"", "invalid_header", inserted_before("tensor wpe", "config n_layer 1"));
  expect_says("\"default\"", "invalid_header", inserted_before("tensor wpe", "default top_p 0.5"));
  expect_says("\"blob\"", "invalid_header", inserted_before("tensor wpe", "blob chat.json 0 0 00000000"));
  expect_says("\"pygpt\"", "invalid_header", inserted_before("tensor wpe", "pygpt 1"));
}
const Test a7_lines_test{"A7: an unknown or misplaced line is refused by its name, wherever it stands", a7_lines};

void a7_keys() {
  expect_says("version 1", "invalid_config", inserted_before("config d_ff", "config n_experts 8"));
  expect_says("n_experts", "invalid_config", inserted_before("config d_ff", "config n_experts 8"));
  expect_says("d_model is repeated", "invalid_config", inserted_before("config d_ff", "config d_model 7"));
  expect_refused("invalid_config", inserted_before("config n_layer", "config d_model 7"));
  for (const char* line : {"default heat 1", "default temperature 1", "blob other.json 0 1 00000000",
                           "blob tokenizer.json 0 1 00000000"}) {
    expect_refused("invalid_header",
                   inserted_before(std::string(line).starts_with("blob") ? "blob provenance" : "default top_k", line),
                   line);
  }
  expect_refused("invalid_header", replaced("default temperature", "default top_p 0.5"), "out of order");
  for (const char* line : {"config n_layer", "config n_layer 1 2", "default temperature", "blob tokenizer.json 0 1",
                           "blob tokenizer.json 0 1 00000000 x", "tensor wte f16 13 7 0 1"}) {
    const std::string first_two = with_word(line, 9, "");
    const size_t end = first_two.find(' ', first_two.find(' ') + 1);
    expect_refused("invalid_header", replaced(first_two.substr(0, end), line), line);
  }
}
const Test a7_keys_test{"A7: unknown, repeated and misplaced keys are refused, as are too few and too many words",
                        a7_keys};

void a7_defaults() {
  const auto with = [](const std::string& line) { return inserted_before("blob tokenizer.json", line); };
  for (const char* value : {"0", "-0.1", "1.1", "nan", "1e-3", "true"})
    expect_refused("invalid_header", with(join("default top_p ", value)), value);
  for (const char* value : {"-0.1", "1.1"})
    expect_refused("invalid_header", with(join("default min_p ", value)), value);
  for (const char* value : {"0", "-1", "101"})
    expect_refused("invalid_header", with(join("default repetition_penalty ", value)), value);
  for (const char* value : {"1", "True"})
    expect_refused("invalid_header", with(join("default top_k_ties ", value)), value);
  for (const char* value : {"-1", "1.5", "01", "9223372036854775808"})
    expect_refused("invalid_header", replaced("default top_k", join("default top_k ", value)), value);
  for (const char* value : {"-1", "101", "inf"})
    expect_refused("invalid_header", replaced("default temperature", join("default temperature ", value)), value);
}
const Test a7_defaults_test{"A7: a default that no request may ask for is refused", a7_defaults};

void good_defaults() {
  for (const char* line : {"temperature 0", "temperature 100", "top_k 0", "top_k_ties false", "top_p 1", "top_p 0.001",
                           "min_p 0", "min_p 1", "repetition_penalty 0.1", "repetition_penalty 100"}) {
    Parts parts = small_model();
    std::erase_if(parts.lines, [](const std::string& each) { return each.starts_with("default "); });
    const std::string* place = &parts.line("blob tokenizer.json");
    parts.lines.insert(parts.lines.begin() + (place - parts.lines.data()), join("default ", line));
    expect_equal(parse(parts.bytes()).defaults.size(), 1u, line);
  }
}
const Test good_defaults_test{"a default at the end of its range is read", good_defaults};

void a8_caps() {
  const std::string good = small_model().bytes();
  const size_t end = good.find("\nend ") + 1;
  std::string endless = "pygpt 1\n";
  while (endless.size() < (2 << 20)) endless += "tensor " + std::string(400, 'x') + " f16 1 1 0 2 00000000\n";
  std::string no_end = small_model().bytes().substr(0, good.find("tensor wte"));
  while (no_end.size() < (2 << 20)) no_end += "tensor " + std::string(400, 'x') + " f16 1 1 0 2 00000000\n";
  expect_says("no \"end\" line", "invalid_header", no_end);
  expect_refused("invalid_config", endless, "config lines are missing");
  expect_says("longer than 512", "invalid_header", inserted_before("tensor wte", std::string(512, 'x')));
  expect_says("unknown to version 1", "invalid_header", inserted_before("tensor wte", std::string(511, 'x')));
  expect_says("longer than 512", "invalid_header", "pygpt " + std::string(1 << 20, '1'));
  for (const char* line : {"end 00000000", "end", "end 0", "end 0 0", "END 00000000", "end 0000000G"}) {
    std::string bytes = good.substr(0, end) + line + "\n";
    bytes.resize((bytes.size() + 63) / 64 * 64, '\0');
    const bool only_the_sum =
        std::string(line) == "end 00000000" || std::string(line) == "end 0" || std::string(line) == "end 0000000G";
    expect_refused(only_the_sum ? "checksum" : "invalid_header", bytes + small_model().data, line);
  }
}
const Test a8_caps_test{"A8: the caps on lines and header hold, and the end line is checked", a8_caps};

void a9_characters() {
  using namespace std::string_literals;
  const std::string bad[] = {
      "default top_k\0 1"s, "default\ttop_k 1"s,    " default top_k 1"s,       "default top_k 1 "s,
      "default  top_k 1"s,  "default top_k 1\x7f"s, "default top_k \xc3\xa9"s, ""s,
      "default top_k 1\r"s};
  for (const std::string& line : bad) expect_refused("invalid_header", replaced("default top_k", line), line);
  expect_says("column 8 holds byte 9", "invalid_header", replaced("default top_k", "default\ttop_k 1"));
  expect_says("header line 24", "invalid_header", replaced("default top_k", "default\ttop_k 1"));
  expect_says("column 1 holds byte 32", "invalid_header", replaced("default top_k", " default top_k 1"));
  expect_says("column 16 holds byte 32", "invalid_header", replaced("default top_k", "default top_k 1 "));
  expect_says("column 9 holds byte 32", "invalid_header", replaced("default top_k", "default  top_k 1"));
  expect_says("column 15 holds byte 127", "invalid_header", replaced("default top_k", "default top_k \x7f"));
  expect_says("unknown to version 1", "invalid_header", replaced("default top_k", "!~ top_k 1"));
  expect_says("column 1 holds byte 239", "invalid_header", "\xef\xbb\xbf" + small_model().bytes());
  for (const char* number : {"064", "+64", "6e1", "nan", "0x40", "-64", "64.0", "9223372036854775808"}) {
    expect_refused("invalid_header", patched("tensor wpe", 5, number), join("offset ", number));
    expect_refused("invalid_header", patched("blob tokenizer.json", 3, number), join("bytes ", number));
  }
  for (const char* crc : {"ABCDEF01", "1234567", "123456789", "0x123456", "-1234567"})
    expect_refused("invalid_header", patched("tensor wpe", 7, crc), crc);
}
const Test a9_characters_test{"A9: bytes and numbers outside the grammar are refused with line and column",
                              a9_characters};

void a10_floods() {
  for (const char* line : {"config n_layer 1\n", "default top_k 1\n", "blob chat.json 0 0 00000000\n",
                           "tensor a f32 1 1 0 4 00000000\n", "x\n"}) {
    const std::string before = small_model().bytes();
    std::string flood = before.substr(0, before.find(std::string(line).substr(0, 5)));
    const size_t size = std::strlen(line);
    flood.reserve(flood.size() + 1'000'000 * size);
    for (int i = 0; i < 1'000'000; ++i) flood.append(line, size);
    expect_throws<ModelFileError>([&] { parse(flood); }, line);
  }
  expect_refused("invalid_header", patched("tensor wpe", 5, std::string(1'000'000, '9')));
  expect_refused("invalid_header", patched("tensor wpe", 1, std::string(10'000, 'n')));
}
const Test a10_floods_test{"A10: a million lines or digits are refused after one mebibyte", a10_floods};

void a11_a14_shapes() {
  for (const auto& [rows, cols] : {std::pair{"4294967296", "4294967296"},
                                   {k2To63Less1, "2"},
                                   {"4398046511105", "4194305"},
                                   {k2To63Less1, k2To63Less1}}) {
    Parts parts = small_model();
    std::string& line = parts.line("tensor wpe");
    line = with_word(with_word(line, 3, rows), 4, cols);
    expect_refused("size_overflow", parts.bytes(), join(rows, " x ", cols));
  }
  for (const char* dimension : {"0", "-1", "1.5", "12a", "+8", "08", "9223372036854775808"}) {
    expect_refused("invalid_shape", patched("tensor wpe", 3, dimension), dimension);
    expect_refused("invalid_shape", patched("tensor wpe", 4, dimension), dimension);
  }
  expect_refused("invalid_shape", patched("tensor wpe", 3, "8 1 1 1"), "five dimensions");
  expect_refused("invalid_shape", patched("tensor wpe", 3, "9"), "not what the config implies");
  expect_refused("invalid_shape", patched("config d_ff", 2, "10"), "not what the config implies");
}
const Test a11_a14_shapes_test{"A11 A14: shapes that wrap, that are none, or that the config does not imply",
                               a11_a14_shapes};

void a12_a13_sums() {
  for (const char* offset : {"9223372036854775744", k2To63Less1, "9223372036854775680"}) {
    expect_refused("size_overflow", patched("tensor wpe", 5, offset), join("tensor at ", offset));
    expect_refused("size_overflow", patched("blob tokenizer.json", 2, offset), join("blob at ", offset));
  }
  for (const char* bytes : {k2To63Less1, "9223372036854775744"})
    expect_refused("size_overflow", patched("blob tokenizer.json", 3, bytes), bytes);
}
const Test a12_a13_sums_test{"A12 A13: sums and roundings that wrap are refused", a12_a13_sums};

void a15_a18_places() {
  Parts parts = small_model();
  const int64_t wpe = parse(parts.bytes()).tensors[1].extent.offset;
  expect_refused("overlap", patched("tensor wpe", 5, join(wpe - 64)), "overlapping");
  expect_refused("overlap", patched("tensor wpe", 5, "0"), "descending");
  expect_refused("overlap", patched("blob provenance.json", 2, "0"), "identical");
  expect_refused("hole", patched("tensor wpe", 5, join(wpe + 64)), "a gap");
  expect_refused("hole", patched("blob tokenizer.json", 2, "64"), "a gap before the first");
  for (const int64_t shift : {1, 63, -1})
    expect_refused("misaligned", patched("tensor wpe", 5, join(wpe + shift)), join(shift));
  const std::string last = "tensor head.bias";
  expect_refused("truncated", patched("blob tokenizer.json", 3, "1099511627776"), "a tebibyte past the end");
  expect_refused("size_mismatch", patched(last, 6, "53"), "one byte more");
  Parts longer = small_model();
  longer.data.pop_back();
  expect_refused("truncated", longer.bytes(), "one byte past the end");
  Parts swapped = small_model();
  std::swap(swapped.line("tensor wte"), swapped.line("tensor wpe"));
  expect_refused("tensor_set", swapped.bytes(), "out of order");
}
const Test a15_a18_places_test{"A15 - A18: sections that overlap, leave holes, lie askew or reach past the end",
                               a15_a18_places};

void a19_formats() {
  for (const char* format : {"f64", "F16", "int8", "fp16", "f16x", "q4_pure"})
    expect_refused("invalid_dtype", patched("tensor wpe", 2, format), format);
  expect_says("has the format \"q5\"; this version knows f32, f16, bf16, q8, q4", "invalid_dtype",
              patched("tensor h.0.mlp.up", 2, "q5"));
  for (const char* format : {"f16", "q8", "q4"})
    expect_refused("invalid_dtype", patched("tensor ln_f.gain", 2, format), "a vector is f32");
  for (const char* format : {"q8", "q4"}) {
    expect_says("a table must be f32, f16 or bf16", "invalid_dtype", patched("tensor wpe", 2, format));
    expect_says("a table must be f32, f16 or bf16", "invalid_dtype", patched("tensor wte", 2, format));
    expect_refused("size_mismatch", patched("tensor h.0.mlp.up", 2, format), "a matrix may, with its own size");
    Parts tied = small_model({.tied_head = true, .format = format});
    expect_equal(parse(tied.bytes()).tensors[0].format, WeightFormats::find(format).value(), "a tied wte is a matrix");
  }
  expect_refused("size_mismatch", patched("tensor wpe", 2, "f32"));
  expect_refused("size_mismatch", patched("tensor wpe", 6, "0"));
}
const Test a19_formats_test{"A19: unknown formats, and sizes that are not the format's", a19_formats};

void a20_names() {
  Parts five = small_model({.biases = false});
  std::erase_if(five.lines, [](const std::string& line) {
    return line.starts_with("tensor h.0.m") || line.starts_with("tensor h.0.a") || line.starts_with("tensor wpe");
  });
  expect_says("missing: h.0.attn.proj, h.0.attn.qkv, h.0.mlp.down, h.0.mlp.up, wpe; unexpected: none", "tensor_set",
              five.bytes());
  expect_says("missing: wpe; unexpected: none", "tensor_set", [] {
    Parts parts = small_model();
    std::erase_if(parts.lines, [](const std::string& line) { return line.starts_with("tensor wpe"); });
    return parts.bytes();
  }());
  expect_says("missing: wte; unexpected: wte.weight", "tensor_set", patched("tensor wte", 1, "wte.weight"));
  expect_says("unexpected: extra", "tensor_set",
              inserted_before("tensor ln_f.gain", "tensor extra f32 1 1 0 4 00000000"));
  expect_says("unexpected: wpe", "tensor_set", inserted_before("tensor ln_f.gain", "tensor wpe f32 1 1 0 4 00000000"));
  expect_says("(12 in all)", "tensor_set", [] {
    Parts parts = small_model({.n_layer = 2});
    parts.line("config n_layer") = "config n_layer 1";
    return parts.bytes();
  }());
}
const Test a20_names_test{"A20: missing and unexpected tensors are listed, five of each and how many", a20_names};

/// Edits of all kinds at random places: whatever comes of it is a header whose parts lie in the file, or a
/// ModelFileError.
void mutations() {
  uint32_t state = 2026;
  const auto random = [&](size_t below) { return (state = state * 1664525u + 1013904223u) / 65536 * below / 65536; };
  const char* evil[] = {"0",    "1",    "-1",  "64",  "4294967296", k2To63Less1, "9223372036854775808",
                        "none", "true", "f16", "nan", "1.5",        ",",         "x"};
  int accepted = 0;
  for (int i = 0; i < 4000; ++i) {
    Parts parts = small_model();
    for (size_t edits = 1 + random(2); edits > 0; --edits) {
      const size_t a = random(parts.lines.size());
      const size_t b = random(parts.lines.size());
      switch (random(5)) {
        case 0: parts.lines[a] = with_word(parts.lines[a], 1 + random(7), evil[random(std::size(evil))]); break;
        case 1: std::swap(parts.lines[a], parts.lines[b]); break;
        case 2: parts.lines.insert(parts.lines.begin() + static_cast<ptrdiff_t>(a), parts.lines[b]); break;
        case 3: parts.lines.erase(parts.lines.begin() + static_cast<ptrdiff_t>(a)); break;
        default: parts.lines[a][random(parts.lines[a].size())] = static_cast<char>(random(256));
      }
    }
    const std::string bytes = parts.bytes();
    try {
      const Header header = parse(bytes);
      ++accepted;
      for (const TensorEntry& tensor : header.tensors) {
        expect(header.data_start + tensor.extent.offset + tensor.extent.bytes <= std::ssize(bytes),
               "a tensor lies in the file");
      }
    } catch (const ModelFileError& error) {
      expect(!error.code.empty() && !error.section.empty(), error.what());
    }
  }
  expect(accepted > 0, "some edits change nothing that matters");
}
const Test mutations_test{"4000 random edits give a header that lies in its file, or a ModelFileError", mutations};

}  // namespace
}  // namespace pygpt::test
