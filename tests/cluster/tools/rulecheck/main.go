// Reads files of rules as Prometheus does (`promtool check rules` calls the same function) and says how many each has.
package main

import (
	"fmt"
	"os"

	"github.com/prometheus/prometheus/model/rulefmt"
)

func main() {
	for _, path := range os.Args[1:] {
		groups, problems := rulefmt.ParseFile(path, false)
		if len(problems) > 0 {
			fmt.Fprintln(os.Stderr, path, problems)
			os.Exit(1)
		}
		rules := 0
		for _, group := range groups.Groups {
			rules += len(group.Rules)
		}
		fmt.Println(rules)
	}
}
