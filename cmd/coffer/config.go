package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/viper"
)

// loadConfig fills into from the command's flags, COFFER_* variables and the YAML file that --config names,
// in this order of precedence. A key of the file that is no flag is refused.
func loadConfig(cmd *cobra.Command, into any) error {
	v := viper.New()
	v.SetEnvPrefix("COFFER")
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	if err := v.BindPFlags(cmd.Flags()); err != nil {
		return err
	}
	if file := v.GetString("config"); file != "" {
		v.SetConfigFile(file)
		v.SetConfigType("yaml")
		if err := v.ReadInConfig(); err != nil {
			return fmt.Errorf("read the configuration file: %w", err)
		}
		for _, key := range v.AllKeys() {
			if cmd.Flags().Lookup(key) == nil {
				return fmt.Errorf("the configuration file %s sets %q, which is nothing that can be set: `%s --help` lists what can",
					file, key, cmd.CommandPath())
			}
		}
	}
	if err := v.Unmarshal(into); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return nil
}
