#include "model/number.h"

#include <string>

#include "check.h"

namespace pygpt::test {
namespace {

void integers() {
  expect_equal(parse_integer("0").value(), 0);
  expect_equal(parse_integer("7").value(), 7);
  expect_equal(parse_integer("9223372036854775807").value(), INT64_MAX);
  for (const char* text : {"", "00", "01", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "1_000", "12a", "nan",
                           "9223372036854775808", "99999999999999999999999999"}) {
    expect(!parse_integer(text), text);
  }
  expect(!parse_integer(std::string("1\0", 2)), "NUL");
  expect(!parse_integer(std::string(100000, '9')), "very long");
}
const Test integers_test{"an integer is 0 or digits without a leading zero, below 2^63", integers};

void reals() {
  expect_equal(parse_real("0").value(), 0.0);
  expect_equal(parse_real("0.00001").value(), 1e-5);
  expect_equal(parse_real("-12.50").value(), -12.5);
  expect_equal(parse_real("0.35355338").value(), 0.35355338);
  const std::string longest = "0." + std::string(61, '0') + "1";
  expect_equal(parse_real(longest).value(), 1e-62);
  for (const char* text : {"",    "-",     ".",   ".5",  "5.",   "-.5", "01",    "01.5", "00",    "--1", "+1",  "1e3",
                           "1E3", "1.5e3", "nan", "inf", "-inf", "NaN", "0x1p3", "1,5",  "1.2.3", " 1",  "1.5 "}) {
    expect(!parse_real(text), text);
  }
  expect(!parse_real(longest + "0"), "65 characters");
  expect(!parse_real(std::string("1.\0", 3)), "NUL");
}
const Test reals_test{"a real has no exponent, no plus, no name, and at most 64 characters", reals};

void booleans() {
  expect(parse_boolean("true").value() && !parse_boolean("false").value(), "values");
  for (const char* text : {"", "True", "TRUE", "1", "0", "yes", "true ", "none"}) expect(!parse_boolean(text), text);
}
const Test booleans_test{"a boolean is true or false", booleans};

void lists() {
  expect(parse_integers("none").value().empty(), "none");
  expect_equal(parse_integers("5").value(), std::vector<int64_t>{5});
  expect_equal(parse_integers("5,0,7").value(), (std::vector<int64_t>{5, 0, 7}));
  expect_equal(parse_integers("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16").value().size(), 16u);
  for (const char* text :
       {"", ",", "1,", ",1", "1,,2", "1,none", "none,1", "1, 2", "1,-2", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"})
    expect(!parse_integers(text), text);
}
const Test lists_test{"a list is integers joined by single commas, at most 16, or none", lists};

void checksums() {
  expect_equal(parse_checksum("00000000").value(), 0u);
  expect_equal(parse_checksum("deadbeef").value(), 0xdeadbeefu);
  for (const char* text : {"", "deadbee", "deadbeef0", "DEADBEEF", "deadbeeg", "0xdeadbe", "dead beef", "-1234567"})
    expect(!parse_checksum(text), text);
}
const Test checksums_test{"a checksum is eight lower-case hexadecimal digits", checksums};

}  // namespace
}  // namespace pygpt::test
