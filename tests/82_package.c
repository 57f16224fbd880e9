/* SPDX-License-Identifier: MIT */
/*
 * What others get: the library, its header and its package files, used from a staged install as a stranger would.
 * Not in sanitizer builds: a program must be built with the same sanitizer as its library.
 */
#include "fixture.h"

#include <stdarg.h>
#include <string.h>
#include <sys/statvfs.h>

static char output[65536];

/* Runs a shell command in the private folder and shows what it said if it fails. */
__attribute__((format(printf, 1, 2))) static int shell(const char *format, ...) {
    static char command[32768];
    int used = snprintf(command, sizeof command, "cd '%s' && ", fixture_folder());
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command + used, sizeof command - (size_t)used, format, arguments);
    va_end(arguments);
    int status = fixture_run(command, output, sizeof output);
    if (status != 0)
        printf("\n    %s\n    -> %d: %s\n", command, status, output);
    return status;
}

/* The same for a command that must fail, quietly. */
static bool refuses(const char *command) {
    char line[8192];
    snprintf(line, sizeof line, "cd '%s' && %s", fixture_folder(), command);
    return fixture_run(line, output, sizeof output) != 0;
}

static void install(void) {
    static char library[5000];
    if (library[0] != '\0')
        return;
    /* Installed where the build did not expect it, and then moved: nothing may remember a path. */
    CU_ASSERT_EQUAL_FATAL(shell("cmake --install '" LARDER_BUILD_DIR "' --prefix \"$PWD/stage\" && mv stage moved"), 0);
    CU_ASSERT_EQUAL_FATAL(shell("find \"$PWD/moved\" -name liblarder.so -printf %%h"), 0);
    snprintf(library, sizeof library, "%.4000s", output);
    setenv("STAGE_LIB", library, 1);
    setenv("LD_LIBRARY_PATH", library, 1);
    strcat(library, "/pkgconfig");
    setenv("PKG_CONFIG_PATH", library, 1);
    snprintf(library, sizeof library, "%s/moved", fixture_folder());
    setenv("STAGE", library, 1);
}

/* The example of larder.h as example.c, with a segment name of its own. False: its 64 MiB are not to be had here. */
static bool write_example(const char *test) {
    char name[65];
    struct statvfs shm;
    if (statvfs("/dev/shm", &shm) != 0 || (uint64_t)shm.f_bavail * shm.f_frsize < UINT64_C(80) << 20) {
        fixture_skip(test, "less than 80 MiB are free in /dev/shm");
        return false;
    }
    install();
    fixture_name(name);
    CU_ASSERT_EQUAL_FATAL(
        shell("sed -n '/---- example.c ----/,/---- end ----/p' \"$STAGE/include/larder.h\" | sed '1d;$d; "
              "s/^ \\*//; s/^     //; s/larder_open(\"example\"/larder_open(\"%s\"/' >example.c && "
              "grep -q '\"%s\"' example.c",
              name, name),
        0);
    return true;
}

static void expect_greeting(const char *program) {
    CU_ASSERT_EQUAL(shell("%s", program), 0);
    CU_ASSERT_STRING_EQUAL(output, "greeting: hello\n");
}

static void header_example_builds_and_runs_as_it_says(void) {
    if (!write_example("header_example_builds_and_runs_as_it_says"))
        return;
    CU_ASSERT_EQUAL_FATAL(shell("cc -Wall -Wextra -Wpedantic -Werror example.c $(pkg-config --cflags --libs larder) -o "
                                "example"),
                          0);
    expect_greeting("./example");
    expect_greeting("./example"); /* the segment is still there: attaches */
}

static void static_library_works_alone(void) {
    if (!write_example("static_library_works_alone"))
        return;
    CU_ASSERT_EQUAL_FATAL(shell("cc -I\"$STAGE/include\" example.c \"$STAGE_LIB/liblarder.a\" -o static-example"), 0);
    CU_ASSERT_EQUAL(shell("! ldd ./static-example | grep larder"), 0);
    expect_greeting("./static-example");
}

static void header_is_usable_from_cxx(void) {
    install();
    if (fixture_run("command -v g++", output, sizeof output) != 0) {
        fixture_skip("header_is_usable_from_cxx", "g++ is not installed");
        return;
    }
    char name[65];
    fixture_name(name);
    CU_ASSERT_EQUAL_FATAL(
        shell("cat >cxx.cc <<'END'\n"
              "#include <larder.h>\n"
              "#include <string>\n"
              "int main() {\n"
              "    larder *cache;\n"
              "    larder_options options = {};\n"
              "    options.size = 4 << 20;\n"
              "    larder_pin pin;\n"
              "    std::string key(\"k\\0y\", 3), value(\"value\");\n"
              "    if (larder_open(\"%s\", &options, &cache, nullptr) != 0) return 1;\n"
              "    if (larder_put(cache, key.data(), key.size(), value.data(), value.size(), 0, 0) != 0) return 2;\n"
              "    if (larder_get_pinned(cache, key.data(), key.size(), &pin) != 0) return 3;\n"
              "    bool same = std::string(static_cast<const char *>(pin.value), pin.item.value_len) == value;\n"
              "    larder_release(cache, &pin);\n"
              "    larder_close(cache);\n"
              "    return same ? 0 : 4;\n"
              "}\n"
              "END\n",
              name),
        0);
    for (unsigned standard = 11; standard <= 20; standard += 3)
        CU_ASSERT_EQUAL(shell("g++ -std=c++%u -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wold-style-cast -Werror "
                              "cxx.cc $(pkg-config --cflags --libs larder) -o cxx && ./cxx",
                              standard),
                        0);
}

static void header_needs_nothing_before_it(void) {
    install();
    CU_ASSERT_EQUAL(shell("echo '#include <larder.h>' >alone.c && for standard in c99 c11 gnu17; do cc -std=$standard "
                          "-Wall -Wextra -Wpedantic -Werror -I\"$STAGE/include\" -c alone.c || exit 1; done"),
                    0);
}

static void shared_library_needs_libc_only(void) {
    install();
    CU_ASSERT_EQUAL(shell("objdump -p \"$STAGE_LIB/liblarder.so\" | awk '$1 == \"NEEDED\" { print $2 }'"), 0);
    CU_ASSERT_STRING_EQUAL(output, "libc.so.6\n");
    CU_ASSERT_EQUAL(
        shell("ldd \"$STAGE_LIB/liblarder.so\" | grep -vE 'linux-vdso|libc\\.so|ld-linux|linux-gate' | wc -l"), 0);
    CU_ASSERT_EQUAL(atoi(output), 0);
    CU_ASSERT_EQUAL(shell("objdump -p \"$STAGE_LIB/liblarder.so\" | awk '$1 == \"SONAME\" { print $2 }'"), 0);
    CU_ASSERT_STRING_EQUAL(output, "liblarder.so.0\n");
}

static void shared_library_exports_what_the_header_declares(void) {
    install();
    CU_ASSERT_EQUAL(
        shell("nm -D --defined-only \"$STAGE_LIB/liblarder.so\" | awk '$2 != \"A\" { print $3 }' | sort "
              ">exported && cc -E -DLARDER_API=DECLARED -I\"$STAGE/include\" -x c - </dev/null >/dev/null && "
              "grep -oE '^LARDER_API .*\\b(larder_[a-z_]+)\\(' \"$STAGE/include/larder.h\" | grep -oE "
              "'larder_[a-z_]+\\(' | tr -d '(' | sed 's/$/@@LARDER_1/' | sort >declared && diff declared "
              "exported && test $(wc -l <exported) -gt 20"),
        0);
}

static void cmake_package_gives_both_libraries(void) {
    if (!write_example("cmake_package_gives_both_libraries"))
        return;
    CU_ASSERT_EQUAL_FATAL(
        shell("mkdir -p consumer && cp example.c consumer/ && cat >consumer/CMakeLists.txt <<'END'\n"
              "cmake_minimum_required(VERSION 3.16)\n"
              "project(consumer C)\n"
              "find_package(larder 0.1 CONFIG REQUIRED)\n"
              "add_executable(shared example.c)\n"
              "target_link_libraries(shared larder::larder)\n"
              "add_executable(static example.c)\n"
              "target_link_libraries(static larder::larder_static)\n"
              "END\n"
              "cmake -G Ninja -S consumer -B consumer/build -DCMAKE_PREFIX_PATH=\"$STAGE\" && cmake --build "
              "consumer/build"),
        0);
    expect_greeting("./consumer/build/shared");
    expect_greeting("./consumer/build/static");
    CU_ASSERT_EQUAL(shell("sed 's/larder 0.1/larder 9.0/' -i consumer/CMakeLists.txt"), 0);
    CU_ASSERT(refuses("cmake -G Ninja -S consumer -B consumer/build-9 -DCMAKE_PREFIX_PATH=\"$STAGE\""));
}

static void pkg_config_tells_version_and_paths(void) {
    install();
    CU_ASSERT_EQUAL(shell("pkg-config --modversion larder"), 0);
    CU_ASSERT_STRING_EQUAL(output, LARDER_VERSION "\n");
    CU_ASSERT_EQUAL(shell("test \"$(readlink -f \"$(pkg-config --variable=includedir larder)\")\" = "
                          "\"$(readlink -f \"$STAGE/include\")\""),
                    0);
    CU_ASSERT_EQUAL(shell("test \"$(readlink -f \"$(pkg-config --variable=libdir larder)\")\" = "
                          "\"$(readlink -f \"$STAGE_LIB\")\""),
                    0);
}

void larder_suite_82_package(void) {
    CU_pSuite suite = CU_add_suite("82_package", NULL, NULL);
    CU_ADD_TEST(suite, header_needs_nothing_before_it);
    CU_ADD_TEST(suite, header_example_builds_and_runs_as_it_says);
    CU_ADD_TEST(suite, static_library_works_alone);
    CU_ADD_TEST(suite, header_is_usable_from_cxx);
    CU_ADD_TEST(suite, shared_library_needs_libc_only);
    CU_ADD_TEST(suite, shared_library_exports_what_the_header_declares);
    CU_ADD_TEST(suite, cmake_package_gives_both_libraries);
    CU_ADD_TEST(suite, pkg_config_tells_version_and_paths);
}
