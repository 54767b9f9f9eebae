// SPDX-License-Identifier: Apache-2.0
// SQLite as somebody who edits a keystore behind its back would use it.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include <sqlite3.h>

namespace dek::test {

// Rows as text: SQLite's quote() of every column, so that they can be put back as they were.
using Rows = std::vector<std::vector<std::string>>;

inline Rows sql(const std::string& path, const std::string& statements) {
    sqlite3* database = nullptr;
    Rows rows;
    char* message = nullptr;
    sqlite3_open_v2(path.c_str(), &database, SQLITE_OPEN_READWRITE, nullptr);
    const auto collect = [](void* to, int count, char** values, char**) {
        std::vector<std::string> row;
        for (int i = 0; i < count; ++i)
            row.emplace_back(values[i] == nullptr ? "" : values[i]);
        static_cast<Rows*>(to)->push_back(std::move(row));
        return 0;
    };
    sqlite3_exec(database, statements.c_str(), collect, &rows, &message);
    const std::string failure = message == nullptr ? "" : message;
    sqlite3_free(message);
    sqlite3_close(database);
    if (!failure.empty())
        throw std::runtime_error(failure + " in " + statements);
    return rows;
}

} // namespace dek::test
