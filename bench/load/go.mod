module ledgermq/bench/load

go 1.22
